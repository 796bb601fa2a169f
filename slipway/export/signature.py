"""What a served model takes and gives: names, dtypes, shapes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

DType = Literal["uint8", "float32", "int64", "string"]
_IMAGE_RANK = 4
_CHANNELS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output. The first axis is the batch."""

    name: str
    dtype: DType
    shape: tuple[int | None, ...]
    """None where any size is accepted: (None, None, None, 3) for RGB images of any height and width."""

    @property
    def is_image(self) -> bool:
        """Whether each sample is an image, grey or of colours."""
        return self.dtype == "uint8" and len(self.shape) == _IMAGE_RANK and self.shape[3] in _CHANNELS

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape is accepted; one without values never is."""
        return len(shape) == len(self.shape) and all(
            size >= 1 and stated in (None, size) for stated, size in zip(self.shape, shape, strict=True)
        )


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


def show_shape(shape: Sequence[int | None]) -> str:
    """A stated shape in a message: `[any, 28, 28, 1]`."""
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _parse(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**{**entry, "shape": tuple(entry["shape"])}) for entry in entries)
