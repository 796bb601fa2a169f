"""Which quotes of a CSV file open or close a cell, as csv.reader has it: one opens at a cell's start, any other is a sign."""

import numpy as np
from numpy.typing import NDArray

_QUOTE, _NEWLINE = ord('"'), ord("\n")
_NO_START = 0
_IS_START = np.isin(np.arange(256), list(b",\r\n"))
"""By the byte before it, whether a quote outside of quotes opens a cell."""
_MAY_OPEN = _IS_START | (np.arange(256) == _QUOTE)
"""The same where quotes open and close in turn: one after a quote is then the second of a doubled one, and opens again."""


class QuoteFinder:
    """The quotes of a file, block by block, from a row's start on."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether the bytes read so far end between quotes."""
        self._before = _NEWLINE

    def find(self, block: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Offsets, in the block that is next, of quotes that open or close; a doubled one closes and opens again."""
        quotes = np.flatnonzero(block == _QUOTE)
        if not _MAY_OPEN[self._read_before(block, quotes[int(self.is_open) :: 2])].all():
            quotes = quotes[self._tell_strays(self._read_before(block, quotes))]
        self.is_open ^= bool(len(quotes) % 2)
        is_stray = block[-1] == _QUOTE and (not len(quotes) or quotes[-1] != len(block) - 1)
        self._before = _NO_START if is_stray else int(block[-1])
        return quotes

    def _read_before(self, block: NDArray[np.uint8], quotes: NDArray[np.int64]) -> NDArray[np.uint8]:
        before = block[quotes - 1]
        if len(quotes) and quotes[0] == 0:
            before[0] = self._before
        return before

    def _tell_strays(self, before: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """For each quote, by the byte before it, whether it opens or closes; one after a quote that closed opens again."""
        counts: list[bool] = []
        is_open, did_count = self.is_open, True
        for is_start, is_doubled in zip(_IS_START[before].tolist(), (before == _QUOTE).tolist(), strict=True):
            did_count = is_open or is_start or (is_doubled and did_count)
            is_open = did_count and not is_open
            counts.append(did_count)
        return np.array(counts)
