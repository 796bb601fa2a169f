"""How Exif data are put together (CIPA DC-008, a TIFF directory): what Pillow would read on and on is refused before it does."""

import struct

from slipway.errors import DataError

ORIENTATION = 0x0112
MAX_EXIF_BYTES = 1 << 20
"""Cameras write up to 64 KiB."""
_MAX_ENTRIES = 256
"""Cameras write about 20. Pillow takes up to 16 microseconds for each, and one for each value of those that it looks at."""
_READ = frozenset((ORIENTATION, 0x011A, 0x0128))
"""Orientation, and what Pillow finds a JPEG's resolution by: each has one value."""
_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_START = 4
"""Where it says where the first directory begins: with the number of its entries, in two bytes."""
_COUNT_BYTES, _ENTRY_BYTES = 2, 12


def check_exif(exif: bytes) -> None:
    """Refuse Exif data, with the prefix or without, whose first directory is long: Pillow reads no other.

    Raises:
        DataError: they have more than 1 MiB, or that directory more than 256 entries and values.
    """
    if len(exif) > MAX_EXIF_BYTES:
        raise DataError(f"its Exif has over {MAX_EXIF_BYTES} bytes; accepted: at most {MAX_EXIF_BYTES}")
    tiff = exif.removeprefix(_PREFIX).removeprefix(_PREFIX)
    order = _BYTE_ORDERS.get(tiff[:2])
    if order is None:
        return
    try:
        (start,) = struct.unpack_from(order + "I", tiff, _START)
        (num_entries,) = struct.unpack_from(order + "H", tiff, start)
    except struct.error:
        return
    if num_entries <= _MAX_ENTRIES:
        entries = tiff[start + _COUNT_BYTES : start + _COUNT_BYTES + num_entries * _ENTRY_BYTES]
        whole = entries[: len(entries) - len(entries) % _ENTRY_BYTES]
        num_entries += sum(count for tag, count in struct.iter_unpack(order + "H2xI4x", whole) if tag in _READ)
    if num_entries > _MAX_ENTRIES:
        raise DataError(f"its Exif has over {_MAX_ENTRIES} entries and values; accepted: at most {_MAX_ENTRIES}")
