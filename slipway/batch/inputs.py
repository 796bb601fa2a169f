"""What lies at a batch prediction's input, and how it is cut into shards."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from slipway.batch.csv_rows import read_names
from slipway.batch.plan import Kind, Shard
from slipway.batch.stream import InputFile
from slipway.batch.text import Cut, cut_text, read_header
from slipway.errors import BatchError
from slipway.storage.listing import StoredFile
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import is_remote, local_path, parent_uri, parse_s3

_SUFFIXES: dict[str, Kind] = {
    ".jpg": "images", ".jpeg": "images", ".png": "images", ".webp": "images",
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_ACCEPTED = ", ".join(_SUFFIXES)
_MAX_GROUP_ROWS = 1 << 20
"""A Parquet row group of more is several shards, each of which reads it from its beginning: memory holds a shard's answers."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files of one kind."""

    folder: str
    """That their names are relative to."""
    kind: Kind
    files: tuple[StoredFile, ...]


def absolute_uri(uri: str) -> str:
    """The one way to write what `uri` names, wherever it is read. A link to a file keeps its name, which says what it holds.

    Raises:
        BatchError: no file of this machine can have this path, or it cannot be looked up.
    """
    if is_remote(uri):
        return parse_s3(uri).uri
    path = local_path(uri)
    try:
        return str(path.parent.resolve() / path.name if path.is_file() else path.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise BatchError(
            f"{uri} cannot be looked up ({error}). Accepted: a path of this machine whose folders may be entered, or s3://BUCKET/KEY."
        ) from None


def list_inputs(storage: ObjectStorage, uri: str) -> Listing:
    """The files at `uri`: that one, or all below a folder that are of a known kind, by name.

    Raises:
        BatchError: there is none, they are of several kinds, or a name is not UTF-8.
    """
    if PurePosixPath(uri).suffix.lower() in _SUFFIXES and (file := storage.find_file(uri)) is not None:
        folder, found = parent_uri(uri), [file]
    else:
        folder, found = uri, [file for file in storage.list_files(uri) if PurePosixPath(file.name).suffix.lower() in _SUFFIXES]
    kinds = sorted({_SUFFIXES[PurePosixPath(file.name).suffix.lower()] for file in found})
    if not found:
        raise BatchError(
            f"{uri} is not there, or holds nothing to predict from; accepted: a file, or a folder of files, {_ACCEPTED}."
        )
    if len(kinds) > 1:
        raise BatchError(f"{uri} holds files of several kinds ({', '.join(kinds)}); accepted: one kind. Name a folder of one.")
    for file in found:
        if any("\ud800" <= sign <= "\udfff" for sign in file.name):
            raise BatchError(f"{uri} holds a file whose name is not UTF-8, {file.name!r}. Rename it.")
    return Listing(folder=folder, kind=kinds[0], files=tuple(sorted(found, key=lambda file: file.name)))


def cut_inputs(storage: ObjectStorage, listing: Listing, shard_rows: int) -> tuple[Shard, ...]:
    """The shards of a listing, in its order.

    Raises:
        BatchError: a file cannot be read as what its name says, or has changed since it was listed.
    """
    if listing.kind == "images":
        starts = range(0, len(listing.files), shard_rows)
        return tuple(
            Shard(number=number, num_rows=min(shard_rows, len(listing.files) - start), file=start)
            for number, start in enumerate(starts)
        )
    cuts = [
        (place, cut)
        for place, file in enumerate(listing.files)
        for cut in _cut_file(InputFile(storage, listing.folder, file), listing.kind, shard_rows)
    ]
    if not cuts:
        raise BatchError(f"{listing.folder} holds no row to predict from.")
    return tuple(
        Shard(number=number, file=place, first_row=first_row, num_rows=num_rows, start=start, end=end)
        for number, (place, (first_row, num_rows, start, end)) in enumerate(cuts)
    )


def _cut_file(file: InputFile, kind: Kind, shard_rows: int) -> list[Cut]:
    if kind == "parquet":
        return _cut_parquet(file, shard_rows)
    cuts = cut_text(file.name, file.read_blocks(), shard_rows, has_header=kind == "csv", has_quotes=kind == "csv")
    if kind == "csv" and not cuts:
        # All of it may be a first line that does not end.
        read_names(file.name, read_header(file.name, file.read_blocks()))
    return cuts


def _cut_parquet(file: InputFile, shard_rows: int) -> list[Cut]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise BatchError(f"{file.name} is no Parquet file ({error}).") from None
    cuts: list[Cut] = []
    first_row = start = num_rows = 0
    for group in range(metadata.num_row_groups):
        num_rows += metadata.row_group(group).num_rows
        is_last = group == metadata.num_row_groups - 1
        if num_rows and (num_rows >= shard_rows or is_last):
            largest = max(shard_rows, _MAX_GROUP_ROWS)
            cuts += [(first_row + row, min(largest, num_rows - row), start, group + 1) for row in range(0, num_rows, largest)]
            first_row, start, num_rows = first_row + num_rows, group + 1, 0
    return cuts
