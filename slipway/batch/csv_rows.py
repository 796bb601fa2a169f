"""Rows of a CSV file: many at once where all are as RFC 4180 has them, one by one where a row may be at fault."""

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slipway.batch.text import MAX_ROW_BYTES
from slipway.data.tables import MISSING, clean_cells
from slipway.errors import BatchError

if TYPE_CHECKING:
    import pyarrow as pa

_QUOTE, _COMMA, _NEWLINE, _RETURN = (ord(sign) for sign in '",\n\r')


def read_names(name: str, header: bytes) -> list[str]:
    """The columns that the first row of the file `name` names.

    Raises:
        BatchError: it is no row of CSV.
    """
    try:
        names = _read_cells(header.decode(errors="replace"))
        wrong = "a quote is not closed" if names is None else ""
    except csv.Error as error:
        names, wrong = None, str(error)
    if names is None:
        raise BatchError(
            f"The first line of {name} cannot be read as CSV ({wrong}); accepted: the columns' names, and a line feed at each "
            "row's end."
        )
    return names


def read_row(row: bytes, header: Sequence[str]) -> Mapping[str, str | None] | str:
    """The cells of a row by their columns, None for a missing value; a sentence where it is no row."""
    try:
        cells = _read_cells(row.decode())
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except csv.Error as error:
        return f"it is not CSV ({error})"
    if cells is None:
        return "it cannot be told from the rows after it; a quote is not closed"
    if len(cells) != len(header):
        return f"it has {len(cells)} cells; accepted: {len(header)}, as the first line names"
    return {name: None if (cell := text.strip()) in MISSING else cell for name, text in zip(header, cells, strict=True)}


def read_regular(rows: Sequence[bytes], header: Sequence[str], names: Sequence[str]) -> "dict[str, pa.Array] | None":
    """Some columns of rows that are all as they should be, null for a missing value; None where one is not, or might not be."""
    import pyarrow as pa
    from pyarrow import csv as pacsv

    content = b"".join(rows)
    try:
        content.decode()
        if not _is_regular(np.frombuffer(content, np.uint8)):
            return None
        table = pacsv.read_csv(
            pa.BufferReader(content),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=len(content), column_names=list(header)),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string())),
        )
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None
    return {name: clean_cells(table.column(name)) for name in names} if table.num_rows == len(rows) else None


def _read_cells(row: str) -> list[str] | None:
    """None where a quote is not closed: then csv.reader asks for the line after the row."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))  # The process's, so it is only ever raised.
    lines = iter([row, ""])
    cells = next(csv.reader(lines))
    return cells if next(lines, None) is not None else None


def _is_regular(content: NDArray[np.uint8]) -> bool:
    """Whether quotes stand only where RFC 4180 has them, and a carriage return only before a line feed."""
    padded = np.concatenate(([_NEWLINE], content, [_NEWLINE]))
    quotes = np.flatnonzero(padded == _QUOTE)
    if len(quotes) % 2:
        return False
    before, after = padded[quotes[0::2] - 1], padded[quotes[1::2] + 1]
    return bool(
        np.isin(before, (_COMMA, _NEWLINE, _QUOTE)).all()
        and np.isin(after, (_COMMA, _NEWLINE, _RETURN, _QUOTE)).all()
        and (padded[np.flatnonzero(padded == _RETURN) + 1] == _NEWLINE).all()
    )
