"""How a PNG file is put together (PNG, third edition, section 5): what would be read on and on is refused before it is."""

import struct

from slipway.errors import DataError

_MAX_CHUNKS = 10_000
"""And one for each KiB of the file: pixels may come in chunks of 8 KiB. Pillow takes up to seven microseconds for each."""
_BYTES_PER_CHUNK = 1024
_PACKED = (b"zTXt", b"iTXt", b"iCCP")
"""Text and profiles: Pillow unpacks each to up to a thousand times its size and 1 MiB, which takes 3 milliseconds."""
_PACKED_BYTES_PER_CHUNK, _MAX_PACKED_BYTES = 8, 1024
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""With which each file begins."""
_CHUNK_HEAD = struct.Struct(">I4s")
"""Bytes of content, name. Behind the content stand four of a checksum."""
_EMPTY_CHUNK_BYTES = 12


def check_chunks(content: bytes) -> int:
    """Count the chunks; of packed text or a profile so many more as Pillow could read while it unpacks them.

    Raises:
        DataError: there are more than 10,000 and one for each KiB, or a second one says how large the image is.
    """
    most = _MAX_CHUNKS + len(content) // _BYTES_PER_CHUNK
    num_chunks = 0
    place = len(PNG_SIGNATURE)
    while place + _CHUNK_HEAD.size <= len(content):
        num_bytes, name = _CHUNK_HEAD.unpack_from(content, place)
        num_chunks += 1
        if name in _PACKED:
            num_chunks += min(num_bytes, _MAX_PACKED_BYTES) // _PACKED_BYTES_PER_CHUNK
        if num_chunks > most:
            raise DataError(f"it has over {most} chunks; accepted: at most {_MAX_CHUNKS}, and one more for each KiB of the file")
        if name == b"IHDR" and place > len(PNG_SIGNATURE):
            raise DataError("it has a chunk IHDR that is not the first one; accepted: one, before all others")
        if name == b"IEND":
            break
        place += _EMPTY_CHUNK_BYTES + num_bytes
    return num_chunks
