"""Image files to pixels: the one way in which images are decoded for a data set. Needs numpy and Pillow alone.

EXIF orientation is applied, transparency is laid over white, palettes and CMYK become RGB, 16 bits become 8. Large JPEGs are
scaled down by a half, a quarter or an eighth while they are decoded, never below the side that the caller names.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from slipway.data.images import Pixels
from slipway.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_THREADS = 8
_WINDOW_PER_THREAD = 4
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
        DataError: it is no such image, or is damaged.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise DataError(f"it has {image.width} x {image.height} pixels; accepted: at most {max_pixels} in all")
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            return _to_pixels(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("it is not a JPEG, PNG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"it has too many pixels ({error})") from None
    # Pillow's decoders and its EXIF reader fail on damaged files in many ways, SyntaxError and struct.error among them.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None


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


def _to_pixels(image: Image.Image) -> Pixels:
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
