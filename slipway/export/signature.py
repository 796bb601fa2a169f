"""What a served model takes and gives: names, dtypes, shapes."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

DType = Literal["uint8", "float32", "int64", "string"]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output. The first axis is the batch."""

    name: str
    dtype: DType
    shape: tuple[int | None, ...]
    """None where any size is accepted: (None, None, None, 3) for RGB images of any height and width."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """All inputs and outputs of a bundle."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """The form that stands in `bundle.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Signature":
        """The inverse of `to_json`; KeyError or TypeError where a field is missing or unknown."""
        return cls(inputs=_parse(content["inputs"]), outputs=_parse(content["outputs"]))


def _parse(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**{**entry, "shape": tuple(entry["shape"])}) for entry in entries)
