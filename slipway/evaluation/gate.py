"""The gate contract: whether a challenger may serve, decided from per-sample results alone.

Invariants:
- `decide` is a pure function: same inputs, same decision. It reads no file, no clock and no environment.
- Nothing passes with a missing, NaN or infinite figure anywhere, outputs included.
- Challenger and champion are compared on the same samples, matched by `sample_id`, or not at all.
- A model that is its own champion passes the comparison.
- Easing a rule of the policy never turns a pass into a refusal.
"""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from slipway.config import GateConfig
from slipway.evaluation.bootstrap import bootstrap_difference
from slipway.evaluation.decision import Comparison, Decision, GateInput, Reason, SliceComparison

_MAX_NAMED = 5
_ROUNDING = 1e-9
"""A difference of exactly the tolerance is allowed, however its floating-point value falls."""


def decide(challenger: GateInput, champion: GateInput | None, policy: GateConfig, higher_is_better: bool) -> Decision:
    """Judge a challenger against the floor, the latency budget and, where there is one, the champion.

    Every rule that can be judged is, so that a refusal names all that is wrong at once. The rules that compare need finite
    results on the same samples; where there are none, the rule that found so has refused already.

    Args:
        challenger: Results of the model that wants to serve.
        champion: Results of the model that serves, on the same samples. One that cannot answer them comes without
            `sample_ids` and is refused as incomparable. None where no model serves.
        policy: What must be shown.
        higher_is_better: Direction of the primary metric. With False, `min_score` is a ceiling.
    """
    sign = 1.0 if higher_is_better else -1.0
    finite = _judge_finite(challenger, champion)
    comparable = _judge_comparable(challenger, champion)
    reasons = [finite, _judge_floor(challenger, policy, sign), _judge_latency(challenger, policy), comparable]
    if champion is None or not (finite.passed and comparable.passed):
        return _conclude(challenger, reasons, None, _compare_slices(challenger, None, policy, sign))
    champion_scores = _align_scores(challenger, champion)
    comparison = _compare(challenger, champion_scores, policy)
    slices = _compare_slices(challenger, champion_scores, policy, sign)
    reasons += [
        _judge_regression(comparison, challenger.metric, policy, sign),
        _judge_slices(slices, challenger, policy),
    ]
    return _conclude(challenger, reasons, comparison, slices)


def _conclude(
    challenger: GateInput, reasons: list[Reason], comparison: Comparison | None, slices: list[SliceComparison]
) -> Decision:
    return Decision(
        passed=all(reason.passed for reason in reasons),
        metric=challenger.metric,
        reasons=tuple(reasons),
        comparison=comparison,
        slices=tuple(slices),
    )


def _judge_finite(challenger: GateInput, champion: GateInput | None) -> Reason:
    problems = [f"the challenger's {problem}" for problem in _find_problems(challenger)]
    broken_champion = _find_problems(champion) if champion is not None and champion.sample_ids else []
    problems += [f"the champion's {problem}" for problem in broken_champion]
    if champion is not None:
        problems += [
            f"the challenger's {name} is missing" for name in sorted(champion.metrics.keys() - challenger.metrics.keys())
        ]
    figures: dict[str, float | None] = {"num_problems": float(len(problems))}
    if not problems:
        message = "Every figure and every output of the model is a finite number."
        return Reason(rule="finite", passed=True, message=message, figures=figures)
    message = f"A model that cannot be measured is not let through: {_enumerate(problems)}."
    if broken_champion:
        message += " To replace a broken champion, go back to an earlier version first (slipway rollback)."
    return Reason(rule="finite", passed=False, message=message, figures=figures)


def _find_problems(results: GateInput) -> list[str]:
    if not results.sample_ids:
        return ["results are empty (no test sample was evaluated)"]
    figures = {"latency_p99_ms": results.latency_p99_ms, **results.metrics}
    problems = [f"{name} is {value}" for name, value in figures.items() if not np.isfinite(value)]
    problems += [f"{results.metric} is missing"] * (results.metric not in results.metrics)
    problems += ["outputs are missing"] * (not results.outputs)
    arrays = {"score": results.scores} | {f"output {name!r}": array for name, array in results.outputs.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            rows = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).sum())
            problems.append(f"{name} is NaN or infinite for {rows} of {len(array)} test samples")
    return problems


def _judge_floor(challenger: GateInput, policy: GateConfig, sign: float) -> Reason:
    score = _mean(challenger.scores)
    passed = bool(sign * (score - policy.min_score) >= -_ROUNDING)
    bound = "floor" if sign > 0 else "ceiling"
    verdict = f"{'meets' if passed else 'misses'} the {bound} of {policy.min_score:g} (gate.min_score)"
    message = f"The {challenger.metric} of {_show(score, '.4f')} {verdict}."
    return Reason(rule="floor", passed=passed, message=message, figures={"score": _finite(score), "min_score": policy.min_score})


def _judge_latency(challenger: GateInput, policy: GateConfig) -> Reason:
    latency = challenger.latency_p99_ms
    passed = bool(latency <= policy.max_latency_ms)
    verdict = f"{'within' if passed else 'over'} the budget of {policy.max_latency_ms:g} ms (gate.max_latency_ms)"
    message = f"99 of 100 single predictions take at most {_show(latency, '.3g')} ms, {verdict}."
    figures = {"latency_p99_ms": _finite(latency), "max_latency_ms": policy.max_latency_ms}
    return Reason(rule="latency", passed=passed, message=message, figures=figures)


def _judge_comparable(challenger: GateInput, champion: GateInput | None) -> Reason:
    figures: dict[str, float | None] = {"num_samples": float(len(challenger.sample_ids))}
    if champion is None:
        message = "No model serves under this name yet: there is none to compare with, so the floor and the budget decide."
        return Reason(rule="comparable", passed=True, message=message, figures=figures)
    problem = _find_difference(challenger, champion)
    if problem is None:
        message = f"Challenger and champion answered the same {len(challenger.sample_ids)} test samples."
        return Reason(rule="comparable", passed=True, message=message, figures=figures)
    message = (
        f"Challenger and champion cannot be compared: {problem}. If this is meant to be another model, give it a name of its "
        "own with deploy.model_name=NAME; the champion goes on serving under its own."
    )
    return Reason(rule="comparable", passed=False, message=message, figures=figures)


def _find_difference(challenger: GateInput, champion: GateInput) -> str | None:
    if challenger.task != champion.task:
        return f"the champion's task is {champion.task}, the challenger's is {challenger.task}"
    if challenger.metric != champion.metric:
        return f"the champion is judged by {champion.metric}, the challenger by {challenger.metric}"
    if challenger.class_names != champion.class_names:
        added = sorted(set(challenger.class_names) - set(champion.class_names))
        removed = sorted(set(champion.class_names) - set(challenger.class_names))
        changes = [f"new: {_enumerate(added)}"] * bool(added) + [f"gone: {_enumerate(removed)}"] * bool(removed)
        return f"they know other classes ({'; '.join(changes) or 'the same ones in another order'})"
    lacking = [spec.name for spec in champion.signature.inputs if spec not in challenger.signature.inputs]
    if lacking:
        return f"the champion takes inputs that this data set does not have in that form ({_enumerate(lacking)})"
    if sorted(challenger.sample_ids) != sorted(champion.sample_ids):
        return "they were judged on other test samples"
    return None


def _align_scores(challenger: GateInput, champion: GateInput) -> NDArray[np.float64]:
    """The champion's scores in the challenger's row order; samples that occur more than once keep theirs."""
    challenger_order = np.argsort(np.array(challenger.sample_ids), kind="stable")
    champion_order = np.argsort(np.array(champion.sample_ids), kind="stable")
    aligned = np.empty_like(champion.scores)
    aligned[challenger_order] = champion.scores[champion_order]
    return aligned


def _compare(challenger: GateInput, champion_scores: NDArray[np.float64], policy: GateConfig) -> Comparison:
    interval = bootstrap_difference(
        challenger.scores - champion_scores,
        confidence=policy.confidence,
        num_resamples=policy.num_resamples,
        seed=policy.seed,
    )
    return Comparison(
        challenger=_mean(challenger.scores),
        champion=_mean(champion_scores),
        difference=interval.difference,
        lower=interval.lower,
        upper=interval.upper,
        confidence=policy.confidence,
    )


def _judge_regression(comparison: Comparison, metric: str, policy: GateConfig, sign: float) -> Reason:
    possible_loss = -comparison.lower if sign > 0 else comparison.upper
    passed = bool(possible_loss <= policy.max_regression + _ROUNDING)
    loss = "no loss" if possible_loss <= 0 else f"a loss of up to {possible_loss:.4f} cannot be ruled out"
    message = (
        f"The {metric} is {comparison.challenger:.4f}, the champion's {comparison.champion:.4f} on the same samples. With "
        f"{comparison.confidence * 100:g} % confidence the difference of {comparison.difference:+.4f} lies between "
        f"{comparison.lower:+.4f} and {comparison.upper:+.4f}: {loss}, where {policy.max_regression:g} is allowed "
        "(gate.max_regression)."
    )
    if comparison.difference == comparison.lower == comparison.upper == 0.0:
        message = f"The {metric} is {comparison.challenger:.4f} for both: no test sample is answered better or worse."
    figures: dict[str, float | None] = {**asdict(comparison), "max_regression": policy.max_regression}
    return Reason(rule="regression", passed=passed, message=message, figures=figures)


def _compare_slices(
    challenger: GateInput, champion_scores: NDArray[np.float64] | None, policy: GateConfig, sign: float
) -> list[SliceComparison]:
    slices = []
    for name, mask in challenger.slices.items():
        num_samples = int(mask.sum())
        score = _mean(challenger.scores[mask])
        champion_score = float("nan") if champion_scores is None else _mean(champion_scores[mask])
        judged = champion_scores is not None and num_samples >= policy.min_slice_samples
        fallen = judged and sign * (score - champion_score) < -policy.slice_tolerance - _ROUNDING
        entry = SliceComparison(
            name=name,
            num_samples=num_samples,
            challenger=_finite(score),
            champion=_finite(champion_score),
            judged=judged,
            passed=not fallen,
        )
        slices.append(entry)
    return slices


def _judge_slices(slices: list[SliceComparison], challenger: GateInput, policy: GateConfig) -> Reason:
    noun = challenger.slice_noun
    num_judged = sum(entry.judged for entry in slices)
    fallen = sorted((entry for entry in slices if not entry.passed), key=lambda entry: entry.drop, reverse=True)
    figures: dict[str, float | None] = {
        "num_judged": float(num_judged),
        "num_fallen": float(len(fallen)),
        "slice_tolerance": policy.slice_tolerance,
    }
    skipped = len(slices) - num_judged
    too_few = f"fewer than {policy.min_slice_samples} test samples (gate.min_slice_samples)"
    note = f" Not judged: {skipped} {noun} with {too_few}." if skipped else ""
    limit = f"more than {policy.slice_tolerance:g} (gate.slice_tolerance)"
    if not num_judged:
        message = f"The {noun} are not judged one by one: each has {too_few}."
        return Reason(rule="slices", passed=True, message=message, figures=figures)
    if not fallen:
        message = f"The {challenger.metric} falls by {limit} in none of the {num_judged} {noun} judged.{note}"
        return Reason(rule="slices", passed=True, message=message, figures=figures)
    details = [
        f"{entry.name!r} from {entry.champion:.4f} to {entry.challenger:.4f} ({entry.num_samples} samples)" for entry in fallen
    ]
    message = (
        f"The {challenger.metric} falls by {limit} in {len(fallen)} of the {num_judged} {noun} judged: "
        f"{_enumerate(details)}.{note}"
    )
    return Reason(rule="slices", passed=False, message=message, figures=figures)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _show(value: float, spec: str) -> str:
    return format(value, spec) if np.isfinite(value) else "NaN or infinity"


def _enumerate(words: list[str]) -> str:
    shown = ", ".join(words[:_MAX_NAMED])
    return f"{shown} and {len(words) - _MAX_NAMED} more" if len(words) > _MAX_NAMED else shown
