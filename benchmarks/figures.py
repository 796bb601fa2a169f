"""What was wanted, what was measured, and how both are written down."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.pairs import P25_TOLERANCE
from slipway.storage.files import write_json

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    title: str
    unit: Literal["x", "%", "s"]
    wanted: float
    higher_is_better: bool
    measured: float
    """The median."""
    spread: float
    """The quartile on the bad side: 25th percentile of ratios, 75th of times."""
    met: bool
    num_pairs: int
    """Pairs, or runs, that count."""
    num_discarded: int = 0
    """Those in which the machine was disturbed."""
    is_disturbed: bool = False
    """Whether others used the machine so much that even disturbed pairs had to count: measure again."""
    samples: list[float] = field(default_factory=list)
    """Each ratio or time, in order, the discarded ones included."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else belongs to the figure: rates of both sides, accuracies."""
    conditions: dict[str, Any] = field(default_factory=dict)
    """The machine meanwhile."""

    def to_row(self) -> str:
        """A line of the table in docs/benchmarks.md."""
        sign = "at least" if self.higher_is_better else "under"
        verdict = "yes" if self.met else f"no, by {self._shortfall()}"
        verdict += " (disturbed)" if self.is_disturbed else ""
        return (
            f"| {self.title} | {sign} {self._show(self.wanted)} | **{self._show(self.measured)}** | {self._show(self.spread)} "
            f"| {self.num_pairs} | {verdict} |"
        )

    def _show(self, value: float) -> str:
        match self.unit:
            case "x":
                return f"{value:.1f} x"
            case "%":
                return f"{100 * value:.1f} %"
            case "s":
                return f"{value:.2f} s"

    def _shortfall(self) -> str:
        """Of the median; of the quartile where that alone misses."""
        goal = self.wanted if self._misses(self.measured) else P25_TOLERANCE * self.wanted
        value = self.measured if self._misses(self.measured) else self.spread
        return f"{100 * abs(value - goal):.1f} points" if self.unit == "%" else f"{abs(value - goal) / goal:.0%}"

    def _misses(self, value: float) -> bool:
        return value < self.wanted if self.higher_is_better else value >= self.wanted


HEAD = "| figure | wanted | median | worse quartile | runs | met |\n|---|---|---|---|---|---|"


def save_figures(path: Path, header: dict[str, Any], figures: Sequence[Figure]) -> list[Figure]:
    """Write the figures beside those that the file has of other names; returns all."""
    kept: dict[str, Figure] = {}
    if path.exists():
        kept = {entry["name"]: Figure(**entry) for entry in json.loads(path.read_text())["figures"]}
    kept |= {figure.name: figure for figure in figures}
    write_json(path, {**header, "figures": [asdict(figure) for figure in kept.values()]})
    return list(kept.values())
