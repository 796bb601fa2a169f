"""Samples as a source gives them, before they become a data set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipway.data.images import Pixels
from slipway.data.manifest import Feature

Origin = Literal["", "train", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawImage:
    """One image, or why there is none."""

    where: str
    """File, and item where a file holds many."""
    label: int
    """As the source says; a value outside `RawImages.class_names` is a finding."""
    origin: Origin
    """The split that the publisher put it in; "" where the source has none."""
    pixels: Pixels | None
    """[height, width, 1 or 3]; None where the file cannot be read."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class RawImages:
    """A source of images. They are read one after the other and never all held."""

    class_names: tuple[str, ...]
    read: Callable[[int], Iterator[RawImage]]
    """All images in a fixed order. The argument is the least side in pixels to which a decoder may scale down."""


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A source of rows, in memory."""

    class_names: tuple[str, ...]
    features: tuple[Feature, ...]
    columns: pa.Table
    """The features: float32 with NaN for missing, or string with null for missing."""
    labels: NDArray[np.int64]
    content: NDArray[Any]
    """What each row holds, without its label [rows, 16 bytes]; equal where, and only where, the rows are."""
    file: str
    """Name of the file, for messages."""


RawData = RawImages | RawTable


def sort_class_names(names: set[str]) -> tuple[str, ...]:
    """By number where all are numbers, else by letter."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))
