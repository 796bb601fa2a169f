"""The arithmetic that a model is computed in, and what the export found out about it."""

from dataclasses import dataclass
from typing import Any, Literal

Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a right answer may be from the expected one: `absolute` plus `relative` times the expected value."""

    absolute: float
    relative: float


@dataclass(frozen=True, kw_only=True)
class PrecisionInfo:
    """One precision beside fp32, as it stands in `bundle.json`."""

    precision: Precision
    file: str
    """That it is computed from; "" where none was kept."""
    kept: bool
    """Whether it may be served."""
    reason: str
    """One sentence: why it was kept, or not."""
    drop: float | None = None
    """Loss in the primary metric on the validation split against fp32; negative where it is better."""
    speed_up: float | None = None
    """Over fp32, one sample, on the machine that exported."""
    golden_difference: float | None = None
    """Largest absolute difference from fp32 on the golden examples."""
    tolerance: Tolerance | None = None
    """For the golden examples on other machines; stated where it is kept."""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "PrecisionInfo":
        """What `asdict` gave; KeyError or TypeError where a field is missing or unknown."""
        tolerance = content["tolerance"]
        return cls(**{**content, "tolerance": None if tolerance is None else Tolerance(**tolerance)})
