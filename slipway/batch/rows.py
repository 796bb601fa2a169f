"""A table's rows as a model's inputs, column by column; a row that cannot be read costs no other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slipway.batch.columns import convert_column, convert_json
from slipway.batch.csv_rows import read_names, read_regular, read_row
from slipway.batch.plan import Kind, Shard
from slipway.batch.stream import InputFile
from slipway.batch.text import read_header, read_text
from slipway.errors import BatchError
from slipway.export.signature import Signature
from slipway.serving.wire.json_body import find_repeated_key

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER_BYTES = 1 << 16
_PARQUET_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Some rows: the inputs of those that could be read, and what is wrong with the others."""

    rows: NDArray[np.int64]
    """Numbers of the rows that could be read, from 0, in the file."""
    inputs: dict[str, NDArray[Any]]
    errors: dict[int, str]
    """What is wrong, by the row's number."""


def read_rows(file: InputFile, kind: Kind, shard: Shard, signature: Signature, chunk_rows: int) -> Iterator[Chunk]:
    """The rows of a shard, at most `chunk_rows` at a time.

    Raises:
        BatchError: the file lacks a column that the model takes, is damaged, or has changed.
    """
    if kind == "parquet":
        yield from _read_parquet(file, shard, signature, chunk_rows)
        return
    first_row = shard.first_row
    header: list[str] = []
    if kind == "csv":
        header = read_names(file.name, read_header(file.name, file.read_blocks(block_bytes=_HEADER_BYTES)))
        _check_columns(file.name, header, signature)
    for rows in read_text(file.name, file.read_blocks(shard.start, shard.end), chunk_rows, has_quotes=kind == "csv"):
        yield _read_csv(rows, header, first_row, signature) if kind == "csv" else _read_json(rows, first_row, signature)
        first_row += len(rows)


def _check_columns(name: str, columns: Sequence[str], signature: Signature) -> None:
    missing = [spec.name for spec in signature.inputs if spec.name not in columns]
    if missing:
        raise BatchError(f"{name} has no column {', '.join(missing)}, which the model takes; it has {', '.join(columns)}.")
    repeated = [spec.name for spec in signature.inputs if columns.count(spec.name) > 1]
    if repeated:
        raise BatchError(f"{name} has several columns {', '.join(repeated)}; accepted: one of each that the model takes.")


def _read_csv(rows: Sequence[bytes], header: Sequence[str], first_row: int, signature: Signature) -> Chunk:
    columns = read_regular(rows, header, [spec.name for spec in signature.inputs])
    if columns is None:
        return _to_chunk([read_row(row, header) for row in rows], first_row, signature, is_text=True)
    return _convert(columns, np.arange(first_row, first_row + len(rows)), {}, signature)


def _read_json(rows: Sequence[bytes], first_row: int, signature: Signature) -> Chunk:
    names = [spec.name for spec in signature.inputs]
    return _to_chunk([_read_object(row, names) for row in rows], first_row, signature, is_text=False)


def _read_object(row: bytes, names: Sequence[str]) -> Mapping[str, Any] | str:
    try:
        record = orjson.loads(row)
        repeated = find_repeated_key(row, record) if isinstance(record, dict) else None
    except orjson.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    except RecursionError:
        return "it is nested too deeply"
    if repeated is not None:
        return f"it holds {repeated} twice in one object; accepted: once"
    if not isinstance(record, dict):
        return "it is not a JSON object with a value for each column"
    return f"it names no column of the model; accepted: {', '.join(names)}" if record.keys().isdisjoint(names) else record


def _read_parquet(file: InputFile, shard: Shard, signature: Signature, chunk_rows: int) -> Iterator[Chunk]:
    import pyarrow as pa
    from pyarrow import parquet

    names = [spec.name for spec in signature.inputs]
    try:
        with parquet.ParquetFile(file, buffer_size=_PARQUET_BUFFER_BYTES) as content:
            _check_columns(file.name, content.schema_arrow.names, signature)
            num_before = sum(content.metadata.row_group(group).num_rows for group in range(shard.start))
            row, end = num_before, shard.first_row + shard.num_rows
            groups = list(range(shard.start, shard.end))
            for batch in content.iter_batches(chunk_rows, row_groups=groups, columns=names):
                wanted = batch.slice(max(shard.first_row - row, 0), max(end - max(row, shard.first_row), 0))
                if len(wanted):
                    first_row = max(row, shard.first_row)
                    rows = np.arange(first_row, first_row + len(wanted))
                    yield _convert({name: wanted.column(name) for name in names}, rows, {}, signature)
                row += len(batch)
                if row >= end:
                    break
    except (pa.ArrowException, OSError) as error:
        raise BatchError(f"{file.name} cannot be read as Parquet, at or after row {shard.first_row} ({error}).") from None


def _to_chunk(records: Sequence[Mapping[str, Any] | str], first_row: int, signature: Signature, *, is_text: bool) -> Chunk:
    import pyarrow as pa

    errors = {first_row + place: record for place, record in enumerate(records) if isinstance(record, str)}
    read = [(first_row + place, record) for place, record in enumerate(records) if not isinstance(record, str)]
    columns: dict[str, Any] = {spec.name: [record.get(spec.name) for _, record in read] for spec in signature.inputs}
    if is_text:
        columns = {name: pa.array(cells, pa.large_string()) for name, cells in columns.items()}
    return _convert(columns, np.array([row for row, _ in read], dtype=np.int64), errors, signature)


def _convert(
    columns: Mapping[str, "pa.Array | list[Any]"], rows: NDArray[np.int64], errors: dict[int, str], signature: Signature
) -> Chunk:
    inputs: dict[str, NDArray[Any]] = {}
    is_good = np.ones(len(rows), dtype=bool)
    for spec in signature.inputs:
        column = columns[spec.name]
        inputs[spec.name], wrong = convert_json(column, spec) if isinstance(column, list) else convert_column(column, spec)
        for place, reason in wrong.items():
            is_good[place] = False
            errors.setdefault(int(rows[place]), reason)
    if is_good.all():
        return Chunk(rows, inputs, errors)
    return Chunk(rows[is_good], {name: array[is_good] for name, array in inputs.items()}, errors)
