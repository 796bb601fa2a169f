"""What the gate is given and what it gives back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.export.signature import Signature

Rule = Literal["finite", "floor", "latency", "comparable", "regression", "slices"]


@dataclass(frozen=True, kw_only=True)
class GateInput:
    """What one model showed on the frozen test samples. Row i of every array is one sample."""

    task: str
    metric: str
    """Name of the primary metric, which is the mean of `scores`."""
    class_names: tuple[str, ...]
    signature: Signature
    sample_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    """Each sample's share of the primary metric [samples]."""
    outputs: Mapping[str, NDArray[Any]]
    """What the model answered, by output name; the first axis is the sample."""
    slices: Mapping[str, NDArray[np.bool_]]
    """Groups that are also judged by themselves: a mask [samples] for each name."""
    slice_noun: str
    """What a slice is, in the plural: `classes`."""
    metrics: Mapping[str, float]
    """All overall figures, the primary metric among them."""
    latency_p99_ms: float
    """Of single-sample predictions, in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one rule found."""

    rule: Rule
    passed: bool
    message: str
    """For a person: what was found, what is accepted, and the way out where there is one."""
    figures: dict[str, float | None]
    """What the message is based on; None stands for a figure that is not finite."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The primary metric of both models on the same samples."""

    challenger: float
    champion: float
    difference: float
    """Challenger minus champion; above 0 is more, which is not better for every metric."""
    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """The primary metric on one slice. None where there is nothing to show: no samples, or no champion."""

    name: str
    num_samples: int
    challenger: float | None
    champion: float | None
    judged: bool
    """Whether a champion exists and the slice has enough samples."""
    passed: bool
    """True where it was not judged."""

    @property
    def drop(self) -> float:
        """How far the challenger lies from the champion, in either direction; 0 where one of them has no figure."""
        return abs(self.challenger - self.champion) if self.challenger is not None and self.champion is not None else 0.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the challenger is let through, and why. It passes exactly when every reason does."""

    passed: bool
    metric: str
    reasons: tuple[Reason, ...]
    comparison: Comparison | None
    """None without a champion to compare with."""
    slices: tuple[SliceComparison, ...]

    def to_json(self) -> dict[str, Any]:
        """The form that stands in `decision.json`; it holds no NaN."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Decision":
        """The inverse of `to_json`; KeyError or TypeError where a field is missing or unknown."""
        comparison = content["comparison"]
        return cls(
            passed=content["passed"],
            metric=content["metric"],
            reasons=tuple(Reason(**entry) for entry in content["reasons"]),
            comparison=None if comparison is None else Comparison(**comparison),
            slices=tuple(SliceComparison(**entry) for entry in content["slices"]),
        )
