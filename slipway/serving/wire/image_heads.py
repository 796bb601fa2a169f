"""What the head of an uploaded image file says of its pixels, found before they are decoded."""

import io
import struct

from PIL import Image, UnidentifiedImageError

from slipway.data.decoding import FORMATS
from slipway.data.exif import ORIENTATION
from slipway.data.jpeg import check_scans
from slipway.data.png import PNG_SIGNATURE
from slipway.errors import DataError

MAX_PIXELS = 40_000_000
"""Of all images of one request."""
JPEG_START = b"\xff\xd8"
_MARKER_BYTES = _LENGTH_BYTES = 2
_JPEG_SCAN, _JPEG_PROGRESSIVE = b"\xff\xda", b"\xff\xc2"
_JPEG_FRAMES = (b"\xff\xc0", b"\xff\xc1", _JPEG_PROGRESSIVE)
_PLAIN_SEGMENTS = (b"\xff\xe0", b"\xff\xdb", b"\xff\xc4", b"\xff\xdd", b"\xff\xfe")
"""JFIF, quantisation, Huffman tables, restart interval, comment: none says how the image is turned."""
_MAX_PLAIN_SEGMENTS = 100
"""Before the first scan of a head that is read here; there are about ten."""
_FRAME_HEAD = struct.Struct(">BHHB")
"""Bits of a sample, height, width, components."""
_SAMPLE_BITS, _COLOR_COMPONENTS = 8, 3
_SCAN_HEAD_BYTES = _MARKER_BYTES + _LENGTH_BYTES
"""Before the number of a scan's components."""
_ALL_COMPONENTS = b"\3"
_AS_STORED = (None, 1)
_PNG_START = PNG_SIGNATURE + b"\0\0\0\rIHDR"
_PNG_SIZE = struct.Struct(">II")


def read_plain_head(body: bytes) -> tuple[int, int, bool] | None:
    """What `read_head` finds, of a colour JPEG whose head holds nothing that could turn it; None of any other file.

    It takes a tenth of the time, and most files are such.

    Raises:
        DataError: `check_scans` refuses it.
    """
    if not body.startswith(JPEG_START):
        return None
    width = height = 0
    is_progressive = False
    place = len(JPEG_START)
    for _ in range(_MAX_PLAIN_SEGMENTS):
        marker = body[place : place + _MARKER_BYTES]
        if marker == _JPEG_SCAN:
            # libjpeg takes no second scan where the first has all components, unless the frame is progressive.
            if is_progressive or body[place + _SCAN_HEAD_BYTES : place + _SCAN_HEAD_BYTES + 1] != _ALL_COMPONENTS:
                check_scans(body)
            return (width, height, True) if 0 < width * height <= MAX_PIXELS else None
        place += _MARKER_BYTES
        length = int.from_bytes(body[place : place + _LENGTH_BYTES])
        if marker in _JPEG_FRAMES:
            frame = body[place + _LENGTH_BYTES : place + _LENGTH_BYTES + _FRAME_HEAD.size]
            if width or len(frame) < _FRAME_HEAD.size:
                return None
            bits, height, width, components = _FRAME_HEAD.unpack(frame)
            is_progressive = marker == _JPEG_PROGRESSIVE
            is_plain = bits == _SAMPLE_BITS and components == _COLOR_COMPONENTS
        else:
            is_plain = marker in _PLAIN_SEGMENTS
        if not is_plain or length < _LENGTH_BYTES:
            return None
        place += length
    return None


def read_head(body: bytes) -> tuple[int, int, bool]:
    """(width, height, whether it is a colour JPEG that is stored upright) of a file that `check_file` accepts.

    Raises:
        DataError: it is no image, is damaged, or has far too many pixels.
    """
    try:
        if body.startswith(_PNG_START):
            width, height = _PNG_SIZE.unpack_from(body, len(_PNG_START))
            return width, height, False
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            is_plain = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(ORIENTATION) in _AS_STORED
            return image.width, image.height, is_plain
    except UnidentifiedImageError:
        raise DataError("it is not a JPEG, PNG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"it has far too many pixels; accepted: at most {MAX_PIXELS} in all") from None
    # Pillow's header and EXIF readers fail on damaged files in many ways, SyntaxError and struct.error among them.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None
