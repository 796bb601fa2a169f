"""A table's rows as a model's inputs, column by column; a row that cannot be read costs no other."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slipway.batch.plan import Kind, Piece
from slipway.batch.text import read_header, read_range
from slipway.data.tables import MISSING
from slipway.errors import BatchError
from slipway.export.signature import Signature, TensorSpec

_SHOWN = 60


@dataclass(frozen=True)
class Chunk:
    """Some rows: the inputs of those that could be read, and what is wrong with the others."""

    rows: NDArray[np.int64]
    """Numbers of the rows that could be read, from 0, in the file."""
    inputs: dict[str, NDArray[Any]]
    errors: dict[int, str]
    """What is wrong, by the row's number."""


def read_rows(path: Path, kind: Kind, piece: Piece, signature: Signature, chunk_rows: int) -> Iterator[Chunk]:
    """The rows of a piece of a file, at most `chunk_rows` at a time.

    Raises:
        BatchError: the file lacks a column that the model takes.
    """
    if kind == "parquet":
        yield from _read_parquet(path, piece, signature, chunk_rows)
        return
    content = read_range(path, piece.start, piece.end)
    if kind == "csv":
        header = next(csv.reader(io.StringIO(read_header(path).decode("utf-8-sig", "replace"))), [])
        _check_columns(piece.file, header, signature)
        records = _read_csv(content, header)
    else:
        records = map(_read_json, content.split(b"\n"))
    batch: list[Mapping[str, Any] | str] = []
    first_row = piece.first_row
    for record, _ in zip(records, range(piece.num_rows), strict=False):
        batch.append(record)
        if len(batch) == chunk_rows:
            yield _to_chunk(batch, first_row, signature)
            first_row, batch = first_row + len(batch), []
    if batch:
        yield _to_chunk(batch, first_row, signature)
    lost = range(first_row + len(batch), piece.first_row + piece.num_rows)
    if lost:
        reason = "it cannot be told from its neighbours; a quote before it is not closed"
        yield _to_chunk([reason] * len(lost), lost.start, signature)


def _check_columns(name: str, columns: Sequence[str], signature: Signature) -> None:
    missing = [spec.name for spec in signature.inputs if spec.name not in columns]
    if missing:
        raise BatchError(f"{name} has no column {', '.join(missing)}, which the model takes; it has {', '.join(columns)}.")


def _read_csv(content: bytes, header: Sequence[str]) -> Iterator[Mapping[str, Any] | str]:
    reader = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"it is not CSV ({error})"
            continue
        if len(cells) != len(header):
            yield f"it has {len(cells)} cells; accepted: {len(header)}, as the first line names"
        elif any(not cell.isascii() and any("\udc80" <= sign <= "\udcff" for sign in cell) for cell in cells):
            yield "it is not UTF-8"
        else:
            yield {name: None if (cell := text.strip()) in MISSING else cell for name, text in zip(header, cells, strict=True)}


def _read_json(line: bytes) -> Mapping[str, Any] | str:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    return record if isinstance(record, dict) else "it is not a JSON object with a value for each column"


def _read_parquet(path: Path, piece: Piece, signature: Signature, chunk_rows: int) -> Iterator[Chunk]:
    from pyarrow import parquet

    names = [spec.name for spec in signature.inputs]
    with parquet.ParquetFile(path) as file:
        _check_columns(piece.file, file.schema_arrow.names, signature)
        first_row = piece.first_row
        groups = list(range(piece.start, piece.end))
        for batch in file.iter_batches(chunk_rows, row_groups=groups, columns=names):
            columns = {name: batch.column(name).to_pylist() for name in names}
            yield _convert(columns, np.arange(first_row, first_row + len(batch)), {}, signature)
            first_row += len(batch)


def _to_chunk(records: Sequence[Mapping[str, Any] | str], first_row: int, signature: Signature) -> Chunk:
    errors = {first_row + place: record for place, record in enumerate(records) if isinstance(record, str)}
    read = [(first_row + place, record) for place, record in enumerate(records) if not isinstance(record, str)]
    columns = {spec.name: [record.get(spec.name) for _, record in read] for spec in signature.inputs}
    return _convert(columns, np.array([row for row, _ in read], dtype=np.int64), errors, signature)


def _convert(columns: Mapping[str, list[Any]], rows: NDArray[np.int64], errors: dict[int, str], signature: Signature) -> Chunk:
    inputs: dict[str, NDArray[Any]] = {}
    is_good = np.ones(len(rows), dtype=bool)
    for spec in signature.inputs:
        inputs[spec.name], wrong = _convert_column(columns[spec.name], spec)
        for place, reason in wrong.items():
            is_good[place] = False
            errors.setdefault(int(rows[place]), reason)
    return Chunk(rows[is_good], {name: array[is_good] for name, array in inputs.items()}, errors)


def _convert_column(values: list[Any], spec: TensorSpec) -> tuple[NDArray[Any], dict[int, str]]:
    if spec.dtype == "string":
        return _convert_strings(values, spec.name)
    missing = float("nan") if spec.dtype == "float32" else None
    try:
        converted = np.array([missing if value is None else float(value) for value in values], dtype=np.float64)
        if _fits(converted, spec.dtype).all():
            return converted.astype(spec.dtype), {}
    except (TypeError, ValueError, OverflowError):
        pass
    return _convert_one_by_one(values, spec)


def _convert_one_by_one(values: list[Any], spec: TensorSpec) -> tuple[NDArray[Any], dict[int, str]]:
    accepted = {"float32": "a finite number, or nothing where it is missing", "uint8": "an integer from 0 to 255"}
    converted, wrong = np.zeros(len(values), dtype=spec.dtype), {}
    for place, value in enumerate(values):
        try:
            number = np.float64("nan") if value is None and spec.dtype == "float32" else np.float64(value)
            if not _fits(np.array([number]), spec.dtype)[0] and not (value is None and spec.dtype == "float32"):
                raise ValueError(value)
            converted[place] = number
        except (TypeError, ValueError, OverflowError):
            wrong[place] = f"column {spec.name} is {repr(value)[:_SHOWN]}; accepted: {accepted.get(spec.dtype, 'an integer')}"
    return converted, wrong


def _fits(numbers: NDArray[np.float64], dtype: str) -> NDArray[np.bool_]:
    if dtype == "float32":
        return np.isnan(numbers) | (np.abs(numbers) <= np.finfo(np.float32).max)
    limits = np.iinfo(dtype)
    fits: NDArray[np.bool_] = (numbers == np.floor(numbers)) & (numbers >= limits.min) & (numbers <= limits.max)
    return fits


def _convert_strings(values: list[Any], name: str) -> tuple[NDArray[Any], dict[int, str]]:
    converted, wrong = np.empty(len(values), dtype=object), {}
    for place, value in enumerate(values):
        converted[place] = "" if value is None else value
        if not isinstance(converted[place], str):
            wrong[place] = f"column {name} is {repr(value)[:_SHOWN]}; accepted: a string, or nothing where it is missing"
            converted[place] = ""
    return converted, wrong
