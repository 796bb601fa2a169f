import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from slipway.config import GateConfig
from slipway.evaluation.decision import Decision, GateInput
from slipway.evaluation.gate import decide
from slipway.export.signature import Signature, TensorSpec

IMAGE = TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 1))
OUTPUT = TensorSpec(name="probabilities", dtype="float32", shape=(None, 2))
POLICY = GateConfig(min_score=0.5, max_regression=0.02, num_resamples=400, slice_tolerance=0.1, min_slice_samples=5)
BAD_NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf])


def results(scores: np.ndarray, *, slices: dict[str, np.ndarray] | None = None, latency: float = 5.0) -> GateInput:
    scores = np.asarray(scores, dtype=np.float64)
    return GateInput(
        task="image-classification",
        metric="accuracy",
        class_names=("cat", "dog"),
        signature=Signature(inputs=(IMAGE,), outputs=(OUTPUT,)),
        sample_ids=tuple(f"sample-{row:04d}" for row in range(len(scores))),
        scores=scores,
        outputs={"probabilities": np.column_stack([scores, 1 - scores]).astype(np.float32)},
        slices={"all": np.ones(len(scores), dtype=bool)} if slices is None else slices,
        slice_noun="classes",
        metrics={"accuracy": float(scores.mean()), "log_loss": 0.3},
        latency_p99_ms=latency,
    )


def verdicts(decision: Decision) -> dict[str, bool]:
    return {reason.rule: reason.passed for reason in decision.reasons}


def message(decision: Decision, rule: str) -> str:
    return next(reason.message for reason in decision.reasons if reason.rule == rule)


def two_classes(cats: float, dogs: float, num_each: int = 100) -> GateInput:
    """Right for this share of each class."""
    ranks = (np.arange(num_each) + 0.5) / num_each
    is_cat = np.repeat([True, False], num_each)
    return results(np.concatenate([ranks < cats, ranks < dogs]), slices={"cat": is_cat, "dog": ~is_cat})


@st.composite
def inputs(draw: st.DrawFn, num_samples: int | None = None) -> GateInput:
    """Any finite results; scores of 0 and 1, or anything between."""
    count = num_samples or draw(st.integers(1, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = generator.random(count) if draw(st.booleans()) else generator.random(count) < draw(st.floats(0, 1))
    groups = generator.integers(0, 3, size=count)
    return results(scores, slices={f"group {index}": groups == index for index in range(3)}, latency=draw(st.floats(0.01, 200)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[GateInput, GateInput]:
    challenger = draw(inputs())
    champion = draw(inputs(num_samples=len(challenger.scores)))
    return challenger, replace(champion, slices=challenger.slices)


@st.composite
def policies(draw: st.DrawFn) -> GateConfig:
    return GateConfig(
        min_score=draw(st.floats(0, 1)),
        max_regression=draw(st.floats(0, 1)),
        confidence=draw(st.floats(0.51, 0.999)),
        num_resamples=200,
        slice_tolerance=draw(st.floats(0, 1)),
        min_slice_samples=draw(st.integers(1, 30)),
        max_latency_ms=draw(st.floats(0.1, 300)),
    )


def poisoned(draw: st.DataObject, target: GateInput, number: float) -> GateInput:
    """`target` with one number anywhere in it replaced."""
    place = draw.draw(st.sampled_from(["score", "output", "accuracy", "log_loss", "latency"]))
    row = draw.draw(st.integers(0, len(target.scores) - 1))
    if place == "score":
        scores = target.scores.copy()
        scores[row] = number
        return replace(target, scores=scores)
    if place == "output":
        array = target.outputs["probabilities"].copy()
        array[row, draw.draw(st.integers(0, 1))] = number
        return replace(target, outputs={"probabilities": array})
    if place == "latency":
        return replace(target, latency_p99_ms=number)
    return replace(target, metrics={**target.metrics, place: number})


EASIEST = GateConfig(
    min_score=-1e9, max_regression=1e9, num_resamples=100, slice_tolerance=1e9, min_slice_samples=1000, max_latency_ms=1e9
)


@settings(max_examples=150, derandomize=True)
@given(pair=pairs(), number=BAD_NUMBERS, in_champion=st.booleans(), data=st.data())
def test_nothing_passes_with_a_number_that_is_not_finite_anywhere(pair, number, in_champion, data):
    challenger, champion = pair
    assert decide(challenger, champion, EASIEST, True).passed
    if in_champion:
        champion = poisoned(data, champion, number)
    else:
        challenger = poisoned(data, challenger, number)
    decision = decide(challenger, champion, EASIEST, True)
    assert not decision.passed
    assert not verdicts(decision)["finite"]
    json.dumps(decision.to_json(), allow_nan=False)


@pytest.mark.parametrize("metrics", [{"log_loss": 0.3}, {"accuracy": 0.9}])
def test_a_figure_that_the_metric_or_the_champion_promises_and_the_challenger_lacks_is_refused(metrics):
    champion = results(np.ones(50))
    decision = decide(replace(champion, metrics=metrics), champion, POLICY, True)
    assert not decision.passed
    assert "is missing" in message(decision, "finite")


def test_no_test_samples_at_all_are_refused():
    nothing = replace(
        results(np.ones(1)), sample_ids=(), scores=np.empty(0), slices={}, outputs={"probabilities": np.empty((0, 2))}
    )
    assert not decide(nothing, None, EASIEST, True).passed
    assert not decide(nothing, nothing, EASIEST, True).passed


@settings(max_examples=100, derandomize=True)
@given(challenger=inputs(), policy=policies())
def test_a_model_that_is_its_own_champion_passes_the_comparison(challenger, policy):
    decision = decide(challenger, challenger, policy, True)
    found = verdicts(decision)
    assert found["comparable"]
    assert found["regression"]
    assert found["slices"]
    assert decision.comparison is not None
    assert decision.comparison.difference == decision.comparison.lower == decision.comparison.upper == 0.0


@settings(max_examples=200, derandomize=True)
@given(pair=pairs(), policy=policies(), data=st.data(), has_champion=st.booleans(), higher_is_better=st.booleans())
def test_easing_the_policy_never_turns_a_pass_into_a_refusal(pair, policy, data, has_champion, higher_is_better):
    challenger, champion = pair
    slack = st.floats(0, 0.5)
    floor_shift = data.draw(slack) * (-1 if higher_is_better else 1)
    eased = replace(
        policy,
        min_score=policy.min_score + floor_shift,
        max_regression=policy.max_regression + data.draw(slack),
        confidence=data.draw(st.floats(0.505, policy.confidence)),
        slice_tolerance=policy.slice_tolerance + data.draw(slack),
        min_slice_samples=policy.min_slice_samples + data.draw(st.integers(0, 50)),
        max_latency_ms=policy.max_latency_ms * (1 + data.draw(slack)),
    )
    against = champion if has_champion else None
    strict, easy = (verdicts(decide(challenger, against, each, higher_is_better)) for each in (policy, eased))
    assert all(easy[rule] for rule, passed in strict.items() if passed)


@settings(max_examples=60, derandomize=True)
@given(pair=pairs(), seed=st.integers(0, 1000))
def test_the_decision_does_not_depend_on_the_order_of_the_samples(pair, seed):
    challenger, champion = pair
    order = np.random.default_rng(seed).permutation(len(champion.scores))
    shuffled = replace(
        champion,
        sample_ids=tuple(champion.sample_ids[row] for row in order),
        scores=champion.scores[order],
        outputs={name: array[order] for name, array in champion.outputs.items()},
        slices={name: mask[order] for name, mask in champion.slices.items()},
    )
    assert decide(challenger, shuffled, POLICY, True) == decide(challenger, champion, POLICY, True)


@settings(max_examples=60, derandomize=True)
@given(pair=pairs(), policy=policies(), has_champion=st.booleans())
def test_a_decision_survives_json_and_passes_exactly_when_each_reason_does(pair, policy, has_champion):
    decision = decide(pair[0], pair[1] if has_champion else None, policy, True)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False))) == decision
    assert decision.passed == all(reason.passed for reason in decision.reasons)


@settings(max_examples=60, derandomize=True)
@given(pair=pairs(), policy=policies())
def test_a_drop_that_is_certain_and_larger_than_allowed_is_always_refused(pair, policy):
    challenger, champion = pair
    worse = replace(challenger, scores=champion.scores - policy.max_regression - 0.01)
    assert not verdicts(decide(worse, champion, policy, True))["regression"]


def test_a_challenger_that_is_better_overall_but_fails_one_class_is_refused():
    decision = decide(two_classes(cats=1.0, dogs=0.65), two_classes(cats=0.7, dogs=0.8), POLICY, True)
    found = verdicts(decision)
    assert decision.comparison is not None
    assert decision.comparison.difference > 0
    assert found["regression"]
    assert not found["slices"]
    assert not decision.passed
    assert "'dog' from 0.8000 to 0.6500 (100 samples)" in message(decision, "slices")
    assert "'cat'" not in message(decision, "slices")


def test_a_slice_too_small_to_tell_is_reported_and_not_judged():
    few = two_classes(cats=1.0, dogs=0.0, num_each=4)
    decision = decide(few, two_classes(cats=1.0, dogs=1.0, num_each=4), replace(POLICY, max_regression=1.0, min_score=0.0), True)
    assert decision.passed
    assert [entry.challenger for entry in decision.slices] == [1.0, 0.0]
    assert not any(entry.judged for entry in decision.slices)
    assert "each has fewer than 5 test samples (gate.min_slice_samples)" in message(decision, "slices")


@pytest.mark.parametrize(("num_samples", "passes"), [(100, False), (20_000, True)])
def test_a_small_loss_is_refused_until_enough_samples_rule_out_a_larger_one(num_samples, passes):
    row = np.arange(num_samples) % 100
    lost, won = row < 6, row >= 95
    champion, challenger = results(~won), results(~lost)
    decision = decide(challenger, champion, POLICY, True)
    assert decision.comparison is not None
    assert decision.comparison.difference == pytest.approx(-0.01)
    assert verdicts(decision)["regression"] is passes


def test_a_drop_of_exactly_the_tolerance_is_allowed():
    decision = decide(two_classes(cats=0.9, dogs=0.7), two_classes(cats=0.9, dogs=0.8), replace(POLICY, max_regression=1.0), True)
    assert verdicts(decision)["slices"]


def test_without_a_champion_the_floor_and_the_budget_decide():
    assert decide(two_classes(0.9, 0.9), None, POLICY, True).passed
    assert not decide(two_classes(0.4, 0.4), None, POLICY, True).passed
    slow = decide(replace(two_classes(0.9, 0.9), latency_p99_ms=100.5), None, POLICY, True)
    assert [reason.rule for reason in slow.reasons if not reason.passed] == ["latency"]
    assert "over the budget of 100 ms (gate.max_latency_ms)" in message(slow, "latency")


def test_where_less_is_better_the_floor_is_a_ceiling_and_more_is_a_regression():
    small, large = results(np.full(50, 0.2)), results(np.full(50, 0.4))
    assert decide(small, large, POLICY, False).passed
    worse = verdicts(decide(large, small, replace(POLICY, min_score=0.3), False))
    assert not worse["floor"]
    assert not worse["regression"]
    assert not worse["slices"]


def change_samples(champion: GateInput) -> GateInput:
    return replace(champion, sample_ids=("another", *champion.sample_ids[1:]))


WIDE = replace(IMAGE, shape=(None, None, None, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda champion: replace(champion, class_names=("cat", "bird")), "new: dog; gone: bird"),
        (lambda champion: replace(champion, class_names=("dog", "cat")), "another order"),
        (lambda champion: replace(champion, task="tabular-classification"), "task is tabular-classification"),
        (lambda champion: replace(champion, metric="f1_macro"), "judged by f1_macro"),
        (lambda champion: replace(champion, signature=Signature(inputs=(WIDE,), outputs=(OUTPUT,))), "image"),
        (change_samples, "other test samples"),
        (lambda champion: replace(champion, sample_ids=(), scores=np.empty(0), outputs={}, metrics={}), "other test samples"),
    ],
)
def test_a_champion_that_cannot_be_compared_refuses_and_names_the_way_out(change, words):
    challenger = two_classes(0.9, 0.9)
    decision = decide(challenger, change(challenger), EASIEST, True)
    assert not decision.passed
    assert words in message(decision, "comparable")
    assert "deploy.model_name" in message(decision, "comparable")
    assert decision.comparison is None


@settings(max_examples=30, derandomize=True)
@given(challenger=inputs())
def test_samples_that_occur_twice_are_compared_once_each(challenger):
    assume(len(challenger.scores) > 1)
    doubled = replace(challenger, sample_ids=("same",) * len(challenger.scores))
    assert verdicts(decide(doubled, doubled, POLICY, True))["regression"]
