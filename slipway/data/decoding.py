"""Image files to pixels: the one way in which images are decoded for a data set. Needs numpy and Pillow alone.

EXIF orientation is applied, transparency is laid over white, palettes and CMYK become RGB, 16 bits become 8. Large JPEGs are
scaled down by a half, a quarter or an eighth while they are decoded, never below the side that the caller names.
"""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from slipway.cores import count_cores
from slipway.data.exif import ORIENTATION, check_exif
from slipway.data.images import Pixels
from slipway.data.jpeg import check_head, check_scans
from slipway.data.png import PNG_SIGNATURE, check_chunks
from slipway.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_THREADS = 8
_WINDOW_PER_THREAD = 4
_STRIP_PIXELS = 2**18
"""Rows are converted so many pixels at a time: a converted copy of a whole image takes up to 8 bytes a pixel."""
_JPEG_MAGIC = b"\xff\xd8\xff"
_MAGIC_BYTES = 12
_HEX_EXIF = "Raw profile type exif"
"""A PNG's text of this name: three lines of head, then hexadecimal digits."""
_HEX_HEAD_LINES = 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By Exif's orientation."""
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
        DataError: it is no such image, is damaged, or `check_file` refuses it.
    """
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            content = _read_file(stream)
        check_file(content)
        return _to_pixels(_open_upright(content, min_side, max_pixels))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("it is not a JPEG, PNG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"it has too many pixels ({error})") from None
    # Pillow's decoders and its EXIF reader fail on damaged files in many ways, SyntaxError and struct.error among them.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None


def has_image_magic(content: bytes) -> bool:
    """Whether it begins as a JPEG, PNG or WebP file does."""
    return content.startswith((_JPEG_MAGIC, PNG_SIGNATURE)) or (content.startswith(b"RIFF") and content[8:12] == b"WEBP")


def check_file(content: bytes) -> int:
    """Refuse a file that would be read or decoded on and on, before it is; how many parts Pillow reads one by one.

    Raises:
        DataError: there is far more to read in it than pixels.
    """
    if content.startswith(_JPEG_MAGIC):
        check_scans(content)
        return check_head(content)
    if content.startswith(PNG_SIGNATURE):
        return check_chunks(content)
    # libwebp passes over a WebP's chunks in a quarter of a microsecond each.
    return 1


def decode_files(paths: Sequence[Path], min_side: int | None) -> Iterator[Decoded]:
    """Pixels of each file, in order, or None and what is wrong with it. A bounded number are decoded ahead."""
    num_threads = min(_MAX_THREADS, count_cores())
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


def _read_file(file: BinaryIO) -> bytes:
    file.seek(0)
    if not has_image_magic(file.read(_MAGIC_BYTES)):
        raise DataError("it is not a JPEG, PNG or WebP image")
    file.seek(0)
    return file.read()


def _open_upright(content: bytes, min_side: int | None, max_pixels: int | None) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise DataError(f"it has {image.width} x {image.height} pixels; accepted: at most {max_pixels} in all")
        if min_side is not None:
            image.draft(None, (min_side, min_side))
        image.load()
        # ImageOps.exif_transpose would also read all of the Exif data, to write them anew.
        if "exif" not in image.info and _HEX_EXIF in image.info:
            image.info["exif"] = bytes.fromhex("".join(image.info[_HEX_EXIF].split("\n", _HEX_HEAD_LINES)[_HEX_HEAD_LINES:]))
        check_exif(image.info.get("exif", b""))
        turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
        return image if turn is None else image.transpose(turn)


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
