"""How a JPEG file is put together (ITU-T T.81, annex B): what would be read or decoded on and on is refused before it is."""

import re

from slipway.data.exif import MAX_EXIF_BYTES, check_exif
from slipway.errors import DataError

_MAX_SEGMENTS = 10_000
"""Before the first scan. Cameras write up to some hundred; Pillow takes three microseconds for each."""
_EXIF, _PHOTOSHOP, _PICTURES, _TABLES, _STRAY = "of Exif", "of Photoshop's", "of MPF", "of tables and frames", "outside segments"
_MAX_BYTES = {_EXIF: MAX_EXIF_BYTES, _PHOTOSHOP: 1 << 20, _PICTURES: 1 << 11, _TABLES: 1 << 16, _STRAY: 1 << 12}
"""In all, before the first scan. For each segment of Exif Pillow copies those before it. Of the others it looks at every block,
entry, value or byte: a file has up to some hundred KiB of Photoshop's, some hundred bytes of MPF and of tables, none outside."""
_MAX_SCAN_COMPONENTS = 32
"""A scan is decoded over the whole image, once for each component in it, and may cost no more than 12 bytes. Encoders write up
to 18 for a colour image, and 24 for one in CMYK (libjpeg's own script)."""
_MAX_COMPONENTS = 4

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER_BYTES = 2
_FILL, _SCAN_CODE = 0xFF, 0xDA
_NO_LENGTH = frozenset((0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
"""Pillow reads on right behind these, even behind the end of the image."""
_UNKNOWN = range(0x01, 0xC0)
_TABLE_CODES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDB, 0xDE}
_EXIF_AT = 10
"""In its segment: behind marker, length and name."""
_APPLICATIONS = {0xE1: (b"Exif\0\0", _EXIF), 0xE2: (b"MPF\0", _PICTURES), 0xED: (b"Photoshop 3.0\0", _PHOTOSHOP)}
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""All that end entropy-coded data and have a length, and the end of the image."""


def check_head(content: bytes) -> int:
    """Go Pillow's way to the first scan and count the segments.

    Raises:
        DataError: there are more than 10,000, too many bytes of one kind, or Exif that `check_exif` refuses.
    """
    num_bytes = dict.fromkeys(_MAX_BYTES, 0)
    exif: list[bytes] = []
    place = 0
    for num_segments in range(_MAX_SEGMENTS):
        marker = content[place : place + _MARKER_BYTES]
        if len(marker) < _MARKER_BYTES or (marker[0] == _FILL and (marker[1] == _SCAN_CODE or marker[1] in _UNKNOWN)):
            check_exif(b"".join(exif))
            return num_segments
        kind, length = _measure(content, place, *marker)
        if kind:
            num_bytes[kind] += length
            if num_bytes[kind] > _MAX_BYTES[kind]:
                raise DataError(f"its head has over {_MAX_BYTES[kind]} bytes {kind}; accepted: at most {_MAX_BYTES[kind]}")
        if kind == _EXIF:
            exif.append(content[place + _EXIF_AT : place + length])
        place += length
    raise DataError(f"its head has over {_MAX_SEGMENTS} segments; accepted: at most {_MAX_SEGMENTS}")


def _measure(content: bytes, place: int, first: int, code: int) -> tuple[str, int]:
    """What stands at a place and is bounded, empty for all else, and its bytes."""
    if first != _FILL:
        found = content.find(_FILL, place)
        return _STRAY, (len(content) if found < 0 else found) - place
    if code == _FILL:
        return "", 1
    behind = place + _MARKER_BYTES
    if code in _NO_LENGTH:
        return "", _MARKER_BYTES
    length = _MARKER_BYTES + max(int.from_bytes(content[behind : behind + 2]), 2)
    if code in _TABLE_CODES:
        return _TABLES, length
    name, kind = _APPLICATIONS.get(code, (b"", ""))
    return (kind if content.startswith(name, behind + 2) else ""), length


def check_scans(content: bytes) -> None:
    """Refuse a file that would be decoded over and over.

    Raises:
        DataError: the components in each of its scans are more than 32 in all.
    """
    if content.count(_SCAN) * _MAX_COMPONENTS <= _MAX_SCAN_COMPONENTS:
        return
    # Thumbnails within the file, and videos that phones append to it, hold the same two bytes and do not count.
    num_components = place = 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(content, place)
        if found is None or found[0] == _END:
            return
        place = found.end()
        if found[0] == _SCAN:
            num_components += int.from_bytes(content[place + 2 : place + 3])
            if num_components > _MAX_SCAN_COMPONENTS:
                most = _MAX_SCAN_COMPONENTS
                raise DataError(f"its scans have over {most} components in all; accepted: at most {most}, as encoders write")
        place += int.from_bytes(content[place : place + 2])
    raise DataError(f"it has over {_MAX_SEGMENTS} segments; accepted: at most {_MAX_SEGMENTS}")
