"""Uploaded image files as the input of a model: decoded as training data are."""

import io
import struct
import threading
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from PIL import Image, UnidentifiedImageError

from slipway.data.decoding import FORMATS, check_scans, check_segments, decode_image
from slipway.data.images import Pixels, drop_equal_channels
from slipway.engines.engine import Arrays
from slipway.errors import DataError, RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.request import InferRequest

try:
    import simplejpeg
except ImportError:  # in the pipeline's image; Pillow gives the same pixels
    simplejpeg = None

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
MAX_PIXELS = 40_000_000
"""Of all images of one request."""
MAX_SIZES = 1024
"""Different ones, of the images of one request: each is a part that the event loop sees."""
LARGE_PIXELS = 4_000_000
"""An image of more is decoded while no other such image is: one of the most pixels takes up to 0.65 GB meanwhile."""
_large_turn = threading.Lock()
_GREY, _COLOR = 1, 3
_ORIENTATION = 0x0112
_AS_STORED = (None, 1)
_JPEG_FACTORS = (8, 4, 2, 1)
_MARKER_BYTES = _LENGTH_BYTES = 2
_JPEG_START, _JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
_JPEG_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")
_PLAIN_SEGMENTS = (b"\xff\xe0", b"\xff\xdb", b"\xff\xc4", b"\xff\xdd", b"\xff\xfe")
"""JFIF, quantisation, Huffman tables, restart interval, comment: none says how the image is turned."""
_FRAME_HEAD = struct.Struct(">BHHB")
"""Bits of a sample, height, width, components."""
_SAMPLE_BITS = 8


def has_image_magic(body: bytes) -> bool:
    """Whether a body begins as a JPEG, PNG or WebP file does."""
    return body.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (body.startswith(b"RIFF") and body[8:12] == b"WEBP")


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
    """Decodes the images of one request, which together have a bounded number of pixels."""

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
        self._one_large_at_a_time = one_large_at_a_time

    def read(self, body: bytes, where: str) -> Pixels:
        """One file as uint8 [height, width, channels], upright, with the channels and the size that the model takes.

        Raises:
            RequestError: it is no image, damaged, too large, or of another size.
        """
        try:
            pixels = self._decode(body)
        except DataError as error:
            raise RequestError(f"{where} cannot be read: {error}.") from None
        for axis, size, wanted in zip(("height", "width"), pixels.shape[:2], self._spec.shape[1:3], strict=True):
            if wanted is not None and size != wanted:
                raise RequestError(f"{where}'s {axis} is {size}; accepted: {wanted}.")
        return pixels

    def _decode(self, body: bytes) -> Pixels:
        is_jpeg = body.startswith(_JPEG_START)
        if is_jpeg:
            check_segments(body)
        width, height, is_color_jpeg = _read_plain_head(body) or _read_head(body)
        if width * height > self._pixels_left:
            more = "" if self._pixels_left == self._max_pixels else ", with those of the images before it"
            raise DataError(f"it has {width} x {height} pixels{more}; accepted: at most {self._max_pixels} in all")
        self._pixels_left -= width * height
        factor = _find_factor(width, height, self._min_side) if is_jpeg else 1
        is_large = width * height > LARGE_PIXELS * factor**2
        with _large_turn if is_large and self._one_large_at_a_time else nullcontext():
            pixels = _decode_jpeg(body, width, height, factor) if is_color_jpeg else None
            if pixels is None:
                pixels = decode_image(io.BytesIO(body), self._min_side, self._max_pixels)
            return _match_channels(pixels, self._spec)


def stack_images(images: Sequence[Pixels], spec: TensorSpec) -> InferRequest:
    """Images as samples: those of one size together.

    Raises:
        RequestError: they have too many different sizes.
    """
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    if len(sizes) > MAX_SIZES:
        raise RequestError(f"The images have {len(sizes)} different sizes; accepted: at most {MAX_SIZES} in one request.")
    parts: list[Arrays] = [{spec.name: _stack([images[place] for place in places])} for places in sizes.values()]
    return InferRequest(parts=tuple(parts), places=tuple(map(tuple, sizes.values())))


def _stack(images: Sequence[Pixels]) -> Pixels:
    return images[0][np.newaxis] if len(images) == 1 else np.stack(images)


def _read_plain_head(body: bytes) -> tuple[int, int, bool] | None:
    """What `_read_head` finds, of a colour JPEG whose head holds nothing that could turn it; None of any other file.

    It takes a tenth of the time, and most files are such.
    """
    if not body.startswith(_JPEG_START):
        return None
    width = height = 0
    place = len(_JPEG_START)
    while (marker := body[place : place + _MARKER_BYTES]) != _JPEG_SCAN:
        place += _MARKER_BYTES
        length = int.from_bytes(body[place : place + _LENGTH_BYTES])
        if marker in _JPEG_FRAMES:
            frame = body[place + _LENGTH_BYTES : place + _LENGTH_BYTES + _FRAME_HEAD.size]
            if width or len(frame) < _FRAME_HEAD.size:
                return None
            bits, height, width, components = _FRAME_HEAD.unpack(frame)
            is_plain = bits == _SAMPLE_BITS and components == _COLOR
        else:
            is_plain = marker in _PLAIN_SEGMENTS
        if not is_plain or length < _LENGTH_BYTES:
            return None
        place += length
    return (width, height, True) if 0 < width * height <= MAX_PIXELS else None


def _read_head(body: bytes) -> tuple[int, int, bool]:
    """(width, height, whether it is a colour JPEG that is stored upright).

    Raises:
        DataError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            is_plain = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(_ORIENTATION) in _AS_STORED
            return image.width, image.height, is_plain
    except UnidentifiedImageError:
        raise DataError("it is not a JPEG, PNG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"it has far too many pixels; accepted: at most {MAX_PIXELS} in all") from None
    # Pillow's header and EXIF readers fail on damaged files in many ways, SyntaxError and struct.error among them.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None


def _find_factor(width: int, height: int, min_side: int | None) -> int:
    """By how much a JPEG's sides are divided while it is decoded."""
    return 1 if min_side is None else next(size for size in _JPEG_FACTORS if size <= max(min(width, height) // min_side, 1))


def _decode_jpeg(body: bytes, width: int, height: int, factor: int) -> Pixels | None:
    """By libjpeg-turbo without Pillow around it, which takes half the time for the same pixels; None where it refuses.

    It refuses some damaged files that Pillow, and so training, accepts.

    Raises:
        DataError: it has too many scans.
    """
    if simplejpeg is None:
        return None
    check_scans(body)
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
