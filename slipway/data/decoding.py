"""Image files to pixels: the one way in which images are decoded for a data set. Needs numpy and Pillow alone.

EXIF orientation is applied, transparency is laid over white, palettes and CMYK become RGB, 16 bits become 8. Large JPEGs are
scaled down by a half, a quarter or an eighth while they are decoded, never below the side that the caller names.
"""

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from slipway.data.images import Pixels
from slipway.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_THREADS = 8
_WINDOW_PER_THREAD = 4
_MAX_JPEG_SCANS = 100
"""Encoders write about ten. Each may cost no more than 12 bytes, and is decoded over the whole image."""
_MAX_JPEG_SEGMENTS = 10_000
"""Before the first scan. Cameras write up to some hundred; Pillow takes two microseconds for each."""
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_FILL = 0xFF
_NO_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
"""Second bytes of the markers that nothing follows."""
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""All that end entropy-coded data and have a length, and the end of the image."""
_STRIP_PIXELS = 2**18
"""Rows are converted so many pixels at a time: a converted copy of a whole image takes up to 8 bytes a pixel."""
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
_WIDE_GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")

Decoded = tuple[Pixels | None, str]


def decode_image(file: Path | BinaryIO, min_side: int | None = None, max_pixels: int | None = None) -> Pixels:
    """Decode a JPEG, PNG or WebP image to uint8 [height, width, 1 or 3].

    Args:
        file: a path or an open binary stream.
        min_side: a JPEG may be scaled down while both sides stay at least this long; None keeps its size.
        max_pixels: a larger image is refused before it is decoded; None leaves that to Pillow's own, wider limit.

    Raises:
        DataError: it is no such image, is damaged, or is a JPEG of more than 100 scans.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise DataError(f"it has {image.width} x {image.height} pixels; accepted: at most {max_pixels} in all")
            if isinstance(image, JpegImageFile):
                _check_file_scans(image)
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            ImageOps.exif_transpose(image, in_place=True)
            return _to_pixels(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("it is not a JPEG, PNG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"it has too many pixels ({error})") from None
    # Pillow's decoders and its EXIF reader fail on damaged files in many ways, SyntaxError and struct.error among them.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None


def check_scans(content: bytes) -> None:
    """Refuse a JPEG that would be decoded over and over.

    Raises:
        DataError: it has more than 100 scans.
    """
    if content.count(_JPEG_SCAN) <= _MAX_JPEG_SCANS:
        return
    # Thumbnails within the file, and videos that phones append to it, hold the same two bytes and do not count.
    num_scans = place = 0
    while (found := _JPEG_MARKER.search(content, place)) and found[0] != _JPEG_END:
        num_scans += found[0] == _JPEG_SCAN
        if num_scans > _MAX_JPEG_SCANS:
            raise DataError(f"it has over {_MAX_JPEG_SCANS} scans; accepted: at most {_MAX_JPEG_SCANS}")
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])


def decode_files(paths: Sequence[Path], min_side: int | None) -> Iterator[Decoded]:
    """Pixels of each file, in order, or None and what is wrong with it. A bounded number are decoded ahead."""
    num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
    waiting = iter(paths)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="decode") as pool:
        ahead: deque[Future[Decoded]] = deque()
        try:
            for path in islice(waiting, num_threads * _WINDOW_PER_THREAD):
                ahead.append(pool.submit(_try_decode, path, min_side))
            while ahead:
                yield ahead.popleft().result()
                for path in islice(waiting, 1):
                    ahead.append(pool.submit(_try_decode, path, min_side))
        finally:
            for future in ahead:
                future.cancel()


def _try_decode(path: Path, min_side: int | None) -> Decoded:
    try:
        return decode_image(path, min_side), ""
    except DataError as error:
        return None, str(error)


def check_segments(content: bytes) -> None:
    """Refuse a JPEG whose head would be read on and on.

    Raises:
        DataError: it has more than 10,000 segments before its first scan.
    """
    place = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = content[place : place + 2]
        if len(marker) < 2 or marker[0] != _JPEG_FILL or marker in (_JPEG_SCAN, _JPEG_END):  # noqa: PLR2004  # two bytes
            return
        if marker[1] == _JPEG_FILL:
            place += 1
        elif marker[1] in _NO_LENGTH:
            place += 2
        else:
            place += 2 + max(int.from_bytes(content[place + 2 : place + 4]), 2)
    raise DataError(f"its head has over {_MAX_JPEG_SEGMENTS} segments; accepted: at most {_MAX_JPEG_SEGMENTS}")


def _check_file_scans(image: JpegImageFile) -> None:
    if image.fp is not None:
        place = image.fp.tell()
        image.fp.seek(0)
        check_scans(image.fp.read())
        image.fp.seek(place)


def _to_pixels(image: Image.Image) -> Pixels:
    width, height = image.size
    num_rows = max(_STRIP_PIXELS // width, 1)
    if num_rows >= height:
        return _convert(image)
    num_channels = _convert(image.crop((0, 0, 1, 1))).shape[2]
    pixels = np.empty((height, width, num_channels), np.uint8)
    for top in range(0, height, num_rows):
        bottom = min(top + num_rows, height)
        pixels[top:bottom] = _convert(image.crop((0, top, width, bottom)))
    return pixels


def _convert(image: Image.Image) -> Pixels:
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode in _ALPHA_MODES:
        image = _lay_over_white(image)
    if image.mode in _WIDE_GREY_MODES:
        wide = np.asarray(image).astype(np.int64)
        return np.clip((wide + 128) // 257, 0, 255).astype(np.uint8)[..., np.newaxis]
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]  # noqa: PLR2004


def _lay_over_white(image: Image.Image) -> Image.Image:
    is_grey = image.mode in ("LA", "La")
    colored = image.convert("RGBA")
    white = Image.new("RGBA", colored.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colored).convert("L" if is_grey else "RGB")
