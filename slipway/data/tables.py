"""CSV files as tables: the header, the cells as text, and which columns are numbers."""

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import csv as pacsv

from slipway.data.images import DIGEST_BYTES
from slipway.data.manifest import LABEL_COLUMN, PROBABILITIES, SAMPLE_ID_COLUMN, Feature
from slipway.data.raw import RawTable, sort_class_names
from slipway.errors import DataError

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "Null", "null", "None", "?")
"""Cells that hold no value."""
_MISSING_CODE = np.uint64(1 << 62)
_TEXT_FLAG = 1 << 63
_NUMBER_STARTS = "+-.0123456789iInN"
_BLOCK_BYTES = 1 << 24
_MIN_CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """How a CSV file is to be read."""

    target: str
    categorical: tuple[str, ...] = ()
    """Columns of numbers that are names, such as postal codes."""
    drop: tuple[str, ...] = ()
    delimiter: str = ","


def read_table(path: Path, name: str, layout: TableLayout) -> RawTable:
    """Read a CSV file (UTF-8, with a header) whose column `layout.target` holds the class.

    A column is numeric where every cell that holds a value is a number, else categorical.

    Raises:
        DataError: the file cannot be read as such a table; the message names the file as `name`.
    """
    header = _read_header(path, name, layout)
    cells = _read_cells(path, name, header, layout.delimiter)
    target = clean_cells(cells[layout.target])
    _check_target(name, layout.target, target)
    names = [column for column in header if column != layout.target and column not in layout.drop]
    features, columns, codes = [], [], []
    for column in names:
        text = clean_cells(cells[column])
        numbers = None if column in layout.categorical else _to_numbers(text)
        if numbers is None:
            features.append(Feature(name=column, role="categorical", dtype="string", shape=()))
            columns.append(text)
            codes.append(_code_text(text, parse_numbers=column not in layout.categorical))
        else:
            features.append(Feature(name=column, role="numeric", dtype="float32", shape=()))
            columns.append(pa.array(numbers))
            codes.append(_code_numbers(numbers))
    class_names = sort_class_names(set(pc.unique(target).to_pylist()))
    if len(class_names) < _MIN_CLASSES:
        raise DataError(
            f"{name}: column {layout.target!r} holds one class only ({class_names[0]!r}); two or more are needed. "
            "Choose another target column or add rows of other classes."
        )
    return RawTable(
        class_names=class_names,
        features=tuple(features),
        columns=pa.Table.from_arrays(columns, names=names),
        labels=np.asarray(pc.index_in(target, pa.array(class_names)).to_numpy(), dtype=np.int64),
        content=_hash_rows(names, codes),
        file=name,
    )


def _read_header(path: Path, name: str, layout: TableLayout) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream, delimiter=layout.delimiter), [])
    except UnicodeDecodeError:
        raise _not_utf8(path, name) from None
    _check_header(name, header, layout)
    return header


def _check_header(name: str, header: list[str], layout: TableLayout) -> None:
    if not header:
        raise DataError(f"{name} is empty; the first line must name the columns.")
    if any(not column.strip() for column in header):
        place = next(number for number, column in enumerate(header, 1) if not column.strip())
        raise DataError(f"{name}: column {place} of {len(header)} has no name in the first line. Name it, or remove it.")
    repeated = sorted(column for column, count in Counter(header).items() if count > 1)
    if repeated:
        raise DataError(f"{name}: several columns are called {_quote(repeated)}. Names must differ: rename all but one.")
    _check_layout(name, header, layout)


def _check_layout(name: str, header: list[str], layout: TableLayout) -> None:
    for option, wanted in (("target", (layout.target,)), ("categorical", layout.categorical), ("drop", layout.drop)):
        for column in wanted:
            if column not in header:
                raise _no_column(name, option, column, header)
    if layout.target in layout.drop:
        raise DataError(f"{name}: column {layout.target!r} is both target and dropped. Remove it from drop.")
    kept = [column for column in header if column != layout.target and column not in layout.drop]
    if not kept:
        raise DataError(f"{name}: no column is left beside the target {layout.target!r}; at least one is needed to predict from.")
    reserved = [column for column in kept if column in (LABEL_COLUMN, SAMPLE_ID_COLUMN, PROBABILITIES)]
    if reserved:
        raise DataError(
            f"{name}: the column name {reserved[0]!r} is reserved. Rename the column in the file, or leave it out with "
            f"drop={reserved[0]}."
        )


def _no_column(name: str, option: str, column: str, header: Sequence[str]) -> DataError:
    nearest = get_close_matches(column, header, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        hint = (
            " The whole first line is one column: is another delimiter used? Give it as delimiter=; (in quotes) or delimiter=%09."
        )
    return DataError(f"{name}: {option}={column} names no column.{hint} Columns: {_quote(header)}.")


def _read_cells(path: Path, name: str, header: list[str], delimiter: str) -> pa.Table:
    ragged: list[pacsv.InvalidRow] = []

    def note_ragged(row: pacsv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    try:
        # One thread: only then does pyarrow number the rows that it complains about.
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=header, skip_rows_after_names=1
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note_ragged),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _not_utf8(path, name) from None
        raise DataError(f"{name} cannot be read as CSV: {error}. Correct the file.") from None
    if ragged:
        first = ragged[0]
        raise DataError(
            f"{name}: row {first.number - 1} has {first.actual_columns} cells where the header names {first.expected_columns} "
            f"({len(ragged)} such rows). Quote cells that hold {delimiter!r}, and fill in missing ones."
        )
    if table.num_rows == 0:
        raise DataError(f"{name} holds a header and no rows.")
    return table


def _not_utf8(path: Path, name: str) -> DataError:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{name}: line {number}, byte {error.start + 1} is not UTF-8. Save the file as UTF-8 "
                    "(`iconv -f latin1 -t utf-8 old.csv > new.csv`, if it is Latin-1)."
                )
    return DataError(f"{name} is not UTF-8. Save the file as UTF-8.")


def clean_cells(column: pa.ChunkedArray) -> pa.Array:
    """Text without blanks around it, null where that is no value."""
    text = pc.utf8_trim_whitespace(column.combine_chunks())
    return pc.if_else(pc.is_in(text, pa.array(MISSING)), pa.scalar(None, pa.string()), text)


def _check_target(name: str, column: str, target: pa.Array) -> None:
    if target.null_count:
        rows = np.flatnonzero(target.is_null().to_numpy(zero_copy_only=False)) + 1
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")  # noqa: PLR2004
        raise DataError(
            f"{name}: {len(rows)} rows have no value in the target column {column!r} (rows {shown}). "
            "Fill them in or remove the rows."
        )


def _to_numbers(text: pa.Array) -> NDArray[np.float32] | None:
    try:
        wide = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    with np.errstate(over="ignore"):
        return np.asarray(wide, dtype=np.float32) + np.float32(0)


def _code_numbers(numbers: NDArray[np.float32]) -> NDArray[np.uint64]:
    return np.where(np.isnan(numbers), _MISSING_CODE, numbers.view(np.uint32).astype(np.uint64))


def _code_text(text: pa.Array, parse_numbers: bool) -> NDArray[np.uint64]:
    """A number for each cell, the same for the same number however it is written and whatever else its column holds."""
    encoded = text.dictionary_encode()
    codes = [_code_cell(cell, parse_numbers) for cell in encoded.dictionary.to_pylist()]
    table = np.array([*codes, int(_MISSING_CODE)], dtype=np.uint64)
    positions: NDArray[np.int32] = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
    return table[positions]


def _code_cell(cell: str, parse_numbers: bool) -> int:
    if parse_numbers and cell[0] in _NUMBER_STARTS:
        numbers = _to_numbers(pa.array([cell]))
        if numbers is not None:
            return int(_code_numbers(numbers)[0])
    return int.from_bytes(hashlib.sha256(cell.encode()).digest()[:8]) | _TEXT_FLAG


def _hash_rows(names: list[str], codes: list[NDArray[np.uint64]]) -> NDArray[np.uint8]:
    order = sorted(range(len(names)), key=lambda place: names[place])
    prefix = hashlib.sha256("\0".join(names[place] for place in order).encode())
    cells = np.ascontiguousarray(np.stack([codes[place] for place in order], axis=1).astype("<u8"))
    hashes = bytearray()
    for row in cells:
        digest = prefix.copy()
        digest.update(row.data)
        hashes += digest.digest()[:DIGEST_BYTES]
    return np.frombuffer(bytes(hashes), np.uint8).reshape(len(cells), DIGEST_BYTES)


def _quote(names: Sequence[str], limit: int = 30) -> str:
    return ", ".join(map(repr, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")
