"""Uploaded image files as the input of a model: decoded as training data are."""

import io
import threading
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from PIL import Image

from slipway.data.decoding import check_file, decode_image
from slipway.data.images import Pixels, drop_equal_channels
from slipway.engines.engine import Arrays
from slipway.errors import DataError, RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.image_heads import JPEG_START, MAX_PIXELS, read_head, read_plain_head
from slipway.serving.wire.request import InferRequest

try:
    import simplejpeg
except ImportError:  # in the pipeline's image; Pillow gives the same pixels
    simplejpeg = None

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
MAX_FILES = 1024
"""Of one request."""
MAX_SIZES = 1024
"""Different ones, of the images of one request: each is a part that the event loop sees."""
LARGE_PIXELS = 4_000_000
"""An image of more is decoded while no other such image is: one of the most pixels takes up to 0.65 GB meanwhile."""
_large_turn = threading.Lock()
_SPARE_PARTS = 10_000
_PARTS_PER_FILE = 256
_BYTES_PER_PART = 1024
"""All files of a request together may have so many segments or chunks, so many more for each file, and one for so many bytes."""
_GREY, _COLOR = 1, 3
_JPEG_FACTORS = (8, 4, 2, 1)


def find_image_spec(signature: Signature) -> TensorSpec | None:
    """The input of a model that takes one image; None for another model."""
    spec = signature.inputs[0]
    return spec if len(signature.inputs) == 1 and spec.is_image else None


def require_image_spec(signature: Signature) -> TensorSpec:
    """`find_image_spec`, or RequestError."""
    spec = find_image_spec(signature)
    if spec is None:
        names = ", ".join(entry.name for entry in signature.inputs)
        raise RequestError(f"The model does not take one image but {names}; accepted: a V1 or V2 request as application/json.")
    return spec


class ImageReader:
    """Decodes the images of one request, which together have a bounded number of pixels and of parts."""

    def __init__(
        self, spec: TensorSpec, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS, one_large_at_a_time: bool = True
    ) -> None:
        """`min_side` is the bundle's: large JPEGs are scaled down while they are decoded, never below it.

        With `one_large_at_a_time`, images of more than `LARGE_PIXELS` wait for those of this process's other readers.
        """
        self._spec = spec
        self._min_side = min_side
        self._max_pixels = max_pixels
        self._pixels_left = max_pixels
        self._parts_left = _SPARE_PARTS
        self._num_files = 0
        self._one_large_at_a_time = one_large_at_a_time

    def read(self, body: bytes, where: str) -> Pixels:
        """One file as uint8 [height, width, channels], upright, with the channels and the size that the model takes.

        Raises:
            RequestError: it is no image, damaged, too large, of another size, or one too many.
        """
        self._num_files += 1
        if self._num_files > MAX_FILES:
            raise RequestError(f"The request has over {MAX_FILES} image files; accepted: at most {MAX_FILES}.")
        try:
            pixels = self._decode(body)
        except DataError as error:
            raise RequestError(f"{where} cannot be read: {error}.") from None
        for axis, size, wanted in zip(("height", "width"), pixels.shape[:2], self._spec.shape[1:3], strict=True):
            if wanted is not None and size != wanted:
                raise RequestError(f"{where}'s {axis} is {size}; accepted: {wanted}.")
        return pixels

    def _decode(self, body: bytes) -> Pixels:
        head = read_plain_head(body)
        if head is None:
            self._count_parts(body)
            head = read_head(body)
        width, height, is_color_jpeg = head
        if width * height > self._pixels_left:
            more = "" if self._pixels_left == self._max_pixels else ", with those of the images before it"
            raise DataError(f"it has {width} x {height} pixels{more}; accepted: at most {self._max_pixels} in all")
        self._pixels_left -= width * height
        factor = _find_factor(width, height, self._min_side) if body.startswith(JPEG_START) else 1
        is_large = width * height > LARGE_PIXELS * factor**2
        with _large_turn if is_large and self._one_large_at_a_time else nullcontext():
            pixels = _decode_jpeg(body, width, height, factor) if is_color_jpeg else None
            if pixels is None:
                pixels = decode_image(io.BytesIO(body), self._min_side, self._max_pixels)
            return _match_channels(pixels, self._spec)

    def _count_parts(self, body: bytes) -> None:
        self._parts_left += _PARTS_PER_FILE + len(body) // _BYTES_PER_PART - check_file(body)
        if self._parts_left < 0:
            raise DataError(
                f"with the images before it, it has too many segments or chunks; accepted: {_PARTS_PER_FILE} in each, "
                f"{_SPARE_PARTS} more in all, and one for each KiB"
            )


def stack_images(images: Sequence[Pixels], spec: TensorSpec) -> InferRequest:
    """Images as samples: those of one size together.

    Raises:
        RequestError: they have too many different sizes.
    """
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    check_num_sizes(len(sizes))
    parts: list[Arrays] = [{spec.name: _stack([images[place] for place in places])} for places in sizes.values()]
    return InferRequest(parts=tuple(parts), places=tuple(map(tuple, sizes.values())))


def check_num_sizes(num_sizes: int) -> None:
    """Raise RequestError where the images of one request have too many different sizes."""
    if num_sizes > MAX_SIZES:
        raise RequestError(f"The images have {num_sizes} different sizes; accepted: at most {MAX_SIZES} in one request.")


def _stack(images: Sequence[Pixels]) -> Pixels:
    return images[0][np.newaxis] if len(images) == 1 else np.stack(images)


def _find_factor(width: int, height: int, min_side: int | None) -> int:
    """By how much a JPEG's sides are divided while it is decoded."""
    return 1 if min_side is None else next(size for size in _JPEG_FACTORS if size <= max(min(width, height) // min_side, 1))


def _decode_jpeg(body: bytes, width: int, height: int, factor: int) -> Pixels | None:
    """By libjpeg-turbo without Pillow around it, which takes half the time for the same pixels; None where it refuses.

    It refuses some damaged files that Pillow, and so training, accepts.
    """
    if simplejpeg is None:
        return None
    smallest = {"min_width": -(-width // factor), "min_height": -(-height // factor), "min_factor": factor} if factor > 1 else {}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(body, "RGB", fastdct=False, fastupsample=False, **smallest)
    except ValueError:
        return None
    return pixels


def _match_channels(pixels: Pixels, spec: TensorSpec) -> Pixels:
    """Grey for a model of grey images, three channels for one of colours."""
    if spec.shape[3] == _COLOR:
        return pixels if pixels.shape[2] == _COLOR else pixels.repeat(_COLOR, axis=2)
    grey = drop_equal_channels(pixels)
    if grey.shape[2] == _GREY:
        return grey
    return np.asarray(Image.fromarray(grey).convert("L"))[..., np.newaxis]
