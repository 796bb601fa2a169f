"""Ratios of interleaved pairs, and what is said of them."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.machine import MAX_FOREIGN, Watch
from benchmarks.turns import Contestant, Turn

MIN_PAIRS = 5
MAX_PEAK_CHANGE = 0.15
P25_TOLERANCE = 0.9


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One turn of each, one after the other."""

    ours: Turn
    baseline: Turn
    peak_change: float
    """Of the machine's matrix product rate from before to after, as a share."""
    foreign: float
    """Share of the machine's processor time that others took meanwhile."""

    @property
    def ratio(self) -> float:
        """Our rate over the baseline's."""
        return self.ours.rate / self.baseline.rate

    @property
    def disturbed(self) -> bool:
        """Whether it says more of the machine than of the programs."""
        return self.peak_change > MAX_PEAK_CHANGE or self.foreign > MAX_FOREIGN


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of all pairs that count."""

    median: float
    p25: float
    p75: float
    num_pairs: int
    num_discarded: int
    is_disturbed: bool
    """Whether too few pairs were left alone, so that all had to count."""

    def reaches(self, goal: float) -> bool:
        """Whether the median is at the goal and the lower quartile not far below it."""
        return self.median >= goal and self.p25 >= P25_TOLERANCE * goal

    def stays_under(self, goal: float) -> bool:
        """Where less is better: whether the median is below the goal and the upper quartile not far above it."""
        return self.median < goal and self.p75 <= goal / P25_TOLERANCE


def summarise(ratios: Sequence[float], disturbed: Sequence[bool]) -> Summary:
    """Median and lower quartile of the ratios of undisturbed pairs, of all where fewer than `MIN_PAIRS` were left alone.

    Raises:
        ValueError: there is no pair.
    """
    if not ratios:
        raise ValueError("there is no pair to summarise")
    quiet = [ratio for ratio, was_disturbed in zip(ratios, disturbed, strict=True) if not was_disturbed]
    is_disturbed = len(quiet) < min(MIN_PAIRS, len(ratios))
    kept = list(ratios) if is_disturbed else quiet
    lower, median, upper = statistics.quantiles(kept, n=4, method="inclusive") if len(kept) > 1 else 3 * kept
    return Summary(
        median=median,
        p25=lower,
        p75=upper,
        num_pairs=len(kept),
        num_discarded=len(ratios) - len(kept),
        is_disturbed=is_disturbed,
    )


def undisturbed(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """Those that say something of the programs; all where there is none."""
    return [pair for pair in pairs if not pair.disturbed] or pairs


def play(ours: Contestant, baseline: Contestant, watch: Watch, *, num_pairs: int, max_pairs: int = 0) -> Iterator[Pair]:
    """Let both take turns, whoever comes first changing from pair to pair. The first pair warms up and is not given.

    Ends after `num_pairs`; where `max_pairs` is larger, after as many undisturbed ones, or after `max_pairs`.
    """
    num_counted = 0
    for number in range(1 + max(num_pairs, max_pairs)):
        watch.await_quiet()
        before = watch.look()
        first, second = (ours, baseline) if number % 2 else (baseline, ours)
        turns = {player.name: player.take_turn() for player in (first, second)}
        peak_change, foreign = watch.compare(before, watch.look())
        pair = Pair(ours=turns[ours.name], baseline=turns[baseline.name], peak_change=peak_change, foreign=foreign)
        if number == 0:
            continue
        yield pair
        num_counted += not (max_pairs and pair.disturbed)
        if num_counted == num_pairs:
            return
