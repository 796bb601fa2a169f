"""What a network is built for: the shape of its input."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "table"]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Normalised images [samples, channels, height, width]."""

    channels: int
    height: int
    width: int

    @property
    def kind(self) -> Kind:
        """For the registry."""
        return "image"


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """Rows of preprocessed numbers [samples, features]."""

    num_features: int

    @property
    def kind(self) -> Kind:
        """For the registry."""
        return "table"


InputSpec = ImageSpec | TableSpec


def scale_width(channels: int, width: float) -> int:
    """Channels multiplied by `width`, rounded, at least 1."""
    return max(1, round(channels * width))
