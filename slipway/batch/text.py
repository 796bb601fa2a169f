"""Text files of rows, cut between rows without reading more than a block at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 22
_NEWLINE, _QUOTE = ord("\n"), ord('"')
Cut = tuple[int, int, int, int]
"""First row, number of rows, first byte, byte after the last."""


def cut_text(path: Path, num_rows: int, *, has_header: bool, has_quotes: bool, block_bytes: int = _BLOCK_BYTES) -> list[Cut]:
    """Where a file of rows can be cut into pieces of `num_rows`; a line break between quotes ends no row."""
    cuts: list[Cut] = []
    start, row, first_row, end = 0, -int(has_header), 0, 0
    for end in _find_row_ends(path, block_bytes, has_quotes=has_quotes):
        row += 1
        if row == 0:
            start = end
        elif row - first_row == num_rows:
            cuts.append((first_row, num_rows, start, end))
            start, first_row = end, row
    if row > first_row:
        cuts.append((first_row, row - first_row, start, end))
    return cuts


def read_header(path: Path) -> bytes:
    """The first row of a CSV file."""
    end = next(_find_row_ends(path, _BLOCK_BYTES, has_quotes=True), 0)
    return read_range(path, 0, end)


def read_range(path: Path, start: int, end: int) -> bytes:
    """Some bytes of a file."""
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(end - start)


def _find_row_ends(path: Path, block_bytes: int, *, has_quotes: bool) -> Iterator[int]:
    """Offsets after the last byte of each row; a last row needs no line break."""
    offset, is_quoted, last = 0, False, 0
    with path.open("rb") as stream:
        while content := stream.read(block_bytes):
            block = np.frombuffer(content, np.uint8)
            ends = np.flatnonzero(block == _NEWLINE)
            if has_quotes:
                ends, is_quoted = _drop_quoted(block, ends, is_quoted)
            for end in (ends + offset + 1).tolist():
                last = end
                yield end
            offset += len(block)
    if last < offset:
        yield offset


def _drop_quoted(block: NDArray[np.uint8], ends: NDArray[np.int64], is_quoted: bool) -> tuple[NDArray[np.int64], bool]:
    quotes = np.flatnonzero(block == _QUOTE)
    num_before = np.searchsorted(quotes, ends) + int(is_quoted)
    return ends[num_before % 2 == 0], bool((len(quotes) + int(is_quoted)) % 2)
