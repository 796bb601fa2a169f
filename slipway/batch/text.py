"""Text files of rows, cut between rows without reading more than a block at a time.

A blank line is no row, a byte order mark no content.
"""

import codecs
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from slipway.batch.quotes import QuoteFinder
from slipway.errors import BatchError

MAX_ROW_BYTES = 64 << 20
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_Offsets = NDArray[np.int64]
Cut = tuple[int, int, int, int]
"""First row, number of rows, first byte, byte after the last."""


def cut_text(name: str, blocks: Iterable[bytes], num_rows: int, *, has_header: bool, has_quotes: bool) -> list[Cut]:
    """Where the file `name` can be cut into pieces of `num_rows` rows; a line break between quotes ends no row.

    Raises:
        BatchError: a row is longer than 64 MiB.
    """
    cuts: list[Cut] = []
    first_row = num_found = begin = end = 0
    num_skipped = int(has_header)
    for starts, ends in _find_rows(name, _blank_mark(blocks), has_quotes=has_quotes):
        place, num_skipped = min(num_skipped, len(starts)), max(num_skipped - len(starts), 0)
        while place < len(starts):
            if num_found == 0:
                begin = int(starts[place])
            num_taken = min(num_rows - num_found, len(starts) - place)
            place, num_found = place + num_taken, num_found + num_taken
            end = int(ends[place - 1])
            if num_found == num_rows:
                cuts.append((first_row, num_found, begin, end))
                first_row, num_found = first_row + num_found, 0
    if num_found:
        cuts.append((first_row, num_found, begin, end))
    return cuts


def read_text(name: str, blocks: Iterable[bytes], num_rows: int, *, has_quotes: bool) -> Iterator[list[bytes]]:
    """The rows of a piece, `num_rows` at a time, each with its line break."""
    held, offset = bytearray(), 0

    def hold() -> Iterator[bytes]:
        for block in blocks:
            held.extend(block)
            yield block

    waiting: list[tuple[int, int]] = []
    for starts, ends in _find_rows(name, hold(), has_quotes=has_quotes):
        waiting += zip(starts.tolist(), ends.tolist(), strict=True)
        while len(waiting) >= num_rows:
            yield [bytes(held[start - offset : end - offset]) for start, end in waiting[:num_rows]]
            end = waiting[num_rows - 1][1]
            del held[: end - offset], waiting[:num_rows]
            offset = end
    if waiting:
        yield [bytes(held[start - offset : end - offset]) for start, end in waiting]


def read_header(name: str, blocks: Iterable[bytes]) -> bytes:
    """The first row of a CSV file; empty where there is none."""
    return next(read_text(name, _blank_mark(blocks), 1, has_quotes=True), [b""])[0]


def _blank_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A file with line breaks in place of its byte order mark: what stands after it begins a row."""
    for place, block in enumerate(blocks):
        has_mark = place == 0 and block.startswith(codecs.BOM_UTF8)
        yield b"\n" * len(codecs.BOM_UTF8) + block[len(codecs.BOM_UTF8) :] if has_mark else block


def _find_rows(name: str, blocks: Iterable[bytes], *, has_quotes: bool) -> Iterator[tuple[_Offsets, _Offsets]]:
    """Offsets of the first byte of each row, and after its last one, block by block; a last row needs no line break."""
    offset = last_end = last_byte = 0
    finder = QuoteFinder()
    for content in blocks:
        block = np.frombuffer(content, np.uint8)
        ends = np.flatnonzero(block == _NEWLINE)
        if has_quotes:
            was_open = finder.is_open
            num_before = np.searchsorted(finder.find(block), ends) + int(was_open)
            ends = ends[num_before % 2 == 0]
        before = np.where(ends > 0, block[ends - 1], last_byte)
        ends = ends + offset + 1
        starts = np.concatenate(([last_end], ends[:-1]))[: len(ends)]
        sizes = ends - starts
        last_end, last_byte, offset = int(ends[-1]) if len(ends) else last_end, int(block[-1]), offset + len(block)
        if max(sizes.max(initial=0), offset - last_end) > MAX_ROW_BYTES:
            raise BatchError(
                f"{name} has a row of more than {MAX_ROW_BYTES >> 20} MiB, before byte {offset}. Look for a quote that is not "
                "closed."
            )
        has_content = (sizes > 2) | ((sizes == 2) & (before != _RETURN))  # noqa: PLR2004 (a line break's bytes)
        yield starts[has_content], ends[has_content]
    if offset - last_end > 1 or (offset > last_end and last_byte != _RETURN):
        yield np.array([last_end]), np.array([offset])
