"""The report's tables: figures of challenger and champion side by side, as text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slipway.evaluation.decision import Decision
from slipway.evaluation.measurement import Evaluation
from slipway.tasks.registry import load_task
from slipway.tasks.task import Figure

NO_FIGURE = "\N{EN DASH}"
Tone = Literal["better", "worse", "same"]

_COST_FIGURES = {
    "latency_p50_ms": Figure(
        title="Latency, median", meaning="Half of the predictions of one sample are faster.", higher_is_better=False
    ),
    "latency_p99_ms": Figure(
        title="Latency, 99th percentile", meaning="99 of 100 predictions of one sample are faster.", higher_is_better=False
    ),
    "size_bytes": Figure(title="Model file", meaning="Size of the ONNX file.", higher_is_better=False),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of both models."""

    name: str
    title: str
    meaning: str
    challenger: str
    champion: str
    difference: str
    tone: Tone
    interval: str
    """Of the difference; "" for all but the primary metric."""
    is_primary: bool


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """The primary metric of both models on one slice."""

    name: str
    num_samples: int
    figures: tuple[str, ...]
    """The challenger's other figures, in the order of `slice_headings`."""
    challenger: str
    champion: str
    difference: str
    tone: Tone
    verdict: Literal["holds", "falls", "not judged"]


def build_rows(decision: Decision, challenger: Evaluation, champion: Evaluation | None) -> list[Row]:
    """The overall figures in the task's order, then latency and size."""
    return [
        _build_row(name, figure, decision, challenger.metrics[name], champion.metrics.get(name) if champion else None)
        for name, figure in _figures(challenger).items()
        if name in challenger.metrics
    ]


def _build_row(name: str, figure: Figure, decision: Decision, value: float, champion_value: float | None) -> Row:
    comparison, is_primary = decision.comparison, name == decision.metric
    difference, tone = _compare(name, value, champion_value, figure.higher_is_better)
    return Row(
        name=name,
        title=figure.title,
        meaning=figure.meaning,
        challenger=format_figure(name, value),
        champion=format_figure(name, champion_value),
        difference=difference,
        tone=tone,
        interval=f"{comparison.lower:+.4f} to {comparison.upper:+.4f}" if comparison and is_primary else "",
        is_primary=is_primary,
    )


def slice_headings(challenger: Evaluation) -> list[str]:
    """Titles of the figures that `build_slice_rows` gives for each slice."""
    return [_figures(challenger)[name].title for name in _slice_figures(challenger)]


def build_slice_rows(decision: Decision, challenger: Evaluation) -> list[SliceRow]:
    """One row a slice, in the task's order."""
    higher_is_better = load_task(challenger.info.task).primary_metric.higher_is_better
    names = _slice_figures(challenger)
    rows = []
    for entry in decision.slices:
        figures = challenger.breakdown.slices.get(entry.name, {})
        difference, tone = _compare("", entry.challenger, entry.champion, higher_is_better)
        row = SliceRow(
            name=entry.name,
            num_samples=entry.num_samples,
            figures=tuple(format_figure(name, figures.get(name)) for name in names),
            challenger=format_figure("", entry.challenger),
            champion=format_figure("", entry.champion),
            difference=difference,
            tone=tone,
            verdict=("holds" if entry.passed else "falls") if entry.judged else "not judged",
        )
        rows.append(row)
    return rows


def format_figure(name: str, value: float | None, sign: str = "") -> str:
    """A figure with its unit, which its name ends in; a dash where there is none. `sign` is "+" for differences."""
    if value is None:
        return NO_FIGURE
    if not math.isfinite(value):
        return "not a number"
    if name.endswith("_ms"):
        return f"{value:{sign}.2f} ms"
    if name.endswith("_bytes"):
        return format_bytes(value, sign)
    return f"{value:{sign}.4f}"


def format_bytes(value: float, sign: str = "") -> str:
    """A size in the largest unit that it reaches."""
    size, units = value, ["B", "KiB", "MiB", "GiB"]
    while abs(size) >= 1024 and len(units) > 1:  # noqa: PLR2004
        size, units = size / 1024, units[1:]
    return f"{size:{sign}.0f} B" if units[0] == "B" else f"{size:{sign}.1f} {units[0]}"


def _compare(name: str, value: float | None, champion_value: float | None, higher_is_better: bool) -> tuple[str, Tone]:
    """The difference as text, and whether it is good; figures that read the same do not differ."""
    if value is None or champion_value is None:
        return NO_FIGURE, "same"
    if format_figure(name, value) == format_figure(name, champion_value):
        return "0", "same"
    difference = value - champion_value
    return format_figure(name, difference, "+"), "better" if (difference > 0) == higher_is_better else "worse"


def _figures(evaluation: Evaluation) -> Mapping[str, Figure]:
    return {**load_task(evaluation.info.task).figures, **_COST_FIGURES}


def _slice_figures(evaluation: Evaluation) -> list[str]:
    present = {name for figures in evaluation.breakdown.slices.values() for name in figures}
    return [name for name in _figures(evaluation) if name in present]
