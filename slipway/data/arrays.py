"""Sources that hold their images as arrays of one shape."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.data.images import Pixels
from slipway.data.raw import Origin, RawImage, RawImages


@dataclass(frozen=True, kw_only=True)
class ArrayPart:
    """Some images of a source."""

    name: str
    """Of the file, for messages."""
    origin: Origin
    images: Pixels
    """[items, height, width, channels]."""
    labels: NDArray[np.int64]
    start: int = 0
    """Number of the first item in the file."""


def read_arrays(class_names: tuple[str, ...], parts: Iterable[ArrayPart]) -> RawImages:
    """A source whose images are those of `parts`, which may be read again and again."""

    def read(min_side: int) -> Iterator[RawImage]:  # noqa: ARG001 (arrays are never scaled down)
        for part in parts:
            for item, (pixels, label) in enumerate(zip(part.images, part.labels, strict=True), part.start):
                yield RawImage(where=f"{part.name}[{item}]", label=int(label), origin=part.origin, pixels=pixels)

    return RawImages(class_names=class_names, read=read)
