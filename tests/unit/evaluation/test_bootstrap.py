import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slipway.evaluation.bootstrap import Interval, bootstrap_difference

DIFFERENCES = st.one_of(
    arrays(np.float64, st.integers(1, 80), elements=st.sampled_from([-1.0, 0.0, 1.0])),
    arrays(np.float64, st.integers(1, 80), elements=st.floats(-10, 10)),
)


def interval(differences: np.ndarray, confidence: float = 0.95, seed: int = 0, num_resamples: int = 500) -> Interval:
    return bootstrap_difference(differences, confidence=confidence, num_resamples=num_resamples, seed=seed)


@settings(max_examples=80, derandomize=True)
@given(DIFFERENCES)
def test_the_interval_lies_between_the_smallest_and_the_largest_difference(differences):
    found = interval(differences)
    assert differences.min() - 1e-9 <= found.lower <= found.upper <= differences.max() + 1e-9
    assert found.difference == pytest.approx(differences.mean(), abs=1e-12)


@settings(max_examples=80, derandomize=True)
@given(DIFFERENCES, st.integers(0, 1000))
def test_the_order_of_the_samples_changes_nothing(differences, seed):
    shuffled = np.random.default_rng(seed).permutation(differences)
    first, second = interval(differences), interval(shuffled)
    assert (first.lower, first.upper) == (second.lower, second.upper)


@settings(max_examples=80, derandomize=True)
@given(DIFFERENCES, st.floats(0.55, 0.9))
def test_more_confidence_gives_an_interval_that_holds_the_narrower_one(differences, confidence):
    narrow, wide = interval(differences, confidence), interval(differences, confidence + 0.09)
    assert wide.lower <= narrow.lower <= narrow.upper <= wide.upper


@settings(max_examples=60, derandomize=True)
@given(arrays(np.float64, st.integers(1, 60), elements=st.integers(-8, 8).map(float)), st.integers(-4, 4))
def test_a_shift_of_every_difference_shifts_the_interval(differences, shift):
    plain, shifted = interval(differences), interval(differences + shift)
    assert shifted.lower == pytest.approx(plain.lower + shift, abs=1e-9)
    assert shifted.upper == pytest.approx(plain.upper + shift, abs=1e-9)


def test_the_interval_is_that_of_scipys_percentile_bootstrap():
    from scipy.stats import bootstrap

    generator = np.random.default_rng(5)
    for differences in (generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=400), generator.normal(0.3, 1.0, size=400)):
        ours = interval(differences, num_resamples=20_000)
        theirs = bootstrap((differences,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
        assert ours.lower == pytest.approx(theirs.low, abs=0.005)
        assert ours.upper == pytest.approx(theirs.high, abs=0.005)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    generator = np.random.default_rng(11)
    trials = generator.choice([-1.0, 0.0, 1.0], p=[0.08, 0.8, 0.12], size=(400, 250))
    held = [found.lower <= 0.04 <= found.upper for found in (interval(row, 0.9, seed) for seed, row in enumerate(trials))]
    assert 0.85 <= np.mean(held) <= 0.94


def test_many_resamples_of_many_distinct_differences_are_drawn_in_bounded_memory():
    import tracemalloc

    differences = np.random.default_rng(0).normal(size=5_000)
    tracemalloc.start()
    interval(differences, num_resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000  # All counts at once would be 80 MB.
