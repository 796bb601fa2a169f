"""The figure of a comparison: how many times the baseline, over the pairs that were played."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.figures import Figure
from benchmarks.machine import load_average
from benchmarks.pairs import Pair, summarise
from slipway.cores import count_cores


def ratio_figure(
    pairs: Sequence[Pair],
    ratios: Sequence[float],
    *,
    name: str,
    title: str,
    wanted: float,
    details: dict[str, Any],
    higher_is_better: bool = True,
) -> Figure:
    """The median of `ratios`, one a pair, with what was seen of the machine meanwhile."""
    summary = summarise(ratios, [pair.disturbed for pair in pairs])
    return Figure(
        name=name,
        title=title,
        unit="x",
        wanted=wanted,
        higher_is_better=higher_is_better,
        measured=summary.median,
        spread=summary.p25 if higher_is_better else summary.p75,
        met=summary.reaches(wanted) if higher_is_better else summary.stays_under(wanted),
        num_pairs=summary.num_pairs,
        num_discarded=summary.num_discarded,
        is_disturbed=summary.is_disturbed,
        samples=[round(ratio, 4) for ratio in ratios],
        details=details,
        conditions={
            "disturbed": [pair.disturbed for pair in pairs],
            "foreign_share": [round(pair.foreign, 3) for pair in pairs],
            "peak_change": [round(pair.peak_change, 3) for pair in pairs],
            "load_average": round(load_average(), 2),
            "cores": count_cores(),
            "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
        },
    )
