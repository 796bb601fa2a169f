"""What lies at a batch prediction's input, and how it is cut into shards."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from slipway.batch.plan import Kind, Piece, Shard
from slipway.batch.text import cut_text
from slipway.errors import BatchError
from slipway.storage.files import hash_json
from slipway.storage.listing import StoredFile
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import is_remote, join_uri, local_path, parent_uri

_SUFFIXES: dict[str, Kind] = {
    ".jpg": "images", ".jpeg": "images", ".png": "images", ".webp": "images",
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_ACCEPTED = ", ".join(_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files of one kind."""

    folder: str
    kind: Kind
    files: tuple[StoredFile, ...]

    @property
    def content_id(self) -> str:
        """Changes when a file does."""
        return hash_json([asdict(file) for file in self.files])[:32]


def list_inputs(storage: ObjectStorage, uri: str) -> Listing:
    """The files at `uri`: one of them, or all below a folder that are of a known kind, by name.

    Raises:
        BatchError: there is none, or they are of several kinds.
    """
    if PurePosixPath(uri).suffix.lower() in _SUFFIXES and (file := storage.find_file(uri)) is not None:
        return Listing(folder=parent_uri(uri), kind=_SUFFIXES[PurePosixPath(uri).suffix.lower()], files=(file,))
    found = [file for file in storage.list_files(uri) if PurePosixPath(file.name).suffix.lower() in _SUFFIXES]
    kinds = sorted({_SUFFIXES[PurePosixPath(file.name).suffix.lower()] for file in found})
    if not found:
        raise BatchError(f"{uri} holds nothing to predict from; accepted: a file, or a folder of files, {_ACCEPTED}.")
    if len(kinds) > 1:
        raise BatchError(f"{uri} holds files of several kinds ({', '.join(kinds)}); accepted: one kind. Name a folder of one.")
    return Listing(folder=uri, kind=kinds[0], files=tuple(sorted(found, key=lambda file: file.name)))


def cut_inputs(storage: ObjectStorage, listing: Listing, shard_rows: int) -> tuple[Shard, ...]:
    """The shards of a listing, in its order.

    Raises:
        BatchError: a file cannot be read as what its name says.
    """
    if listing.kind == "images":
        pieces = [Piece(file=file.name) for file in listing.files]
        groups: list[Sequence[Piece]] = [pieces[start : start + shard_rows] for start in range(0, len(pieces), shard_rows)]
    else:
        groups = []
        for file in listing.files:
            with local_copy(storage, listing.folder, file.name) as path:
                groups += [(piece,) for piece in _cut_file(path, file.name, listing.kind, shard_rows)]
    if not groups:
        raise BatchError(f"{listing.folder} holds no row to predict from.")
    return tuple(Shard(number=number, pieces=tuple(group)) for number, group in enumerate(groups))


@contextmanager
def local_copy(storage: ObjectStorage, folder: str, name: str) -> Iterator[Path]:
    """A file on this machine's disk; one from an object store stays there as long as the block."""
    uri = join_uri(folder, name)
    if not is_remote(uri):
        yield local_path(folder) / name
        return
    with tempfile.TemporaryDirectory(prefix="slipway-batch-") as scratch:
        path = Path(scratch) / "file"
        storage.download_file(uri, path)
        yield path


def _cut_file(path: Path, name: str, kind: Kind, shard_rows: int) -> list[Piece]:
    if kind == "parquet":
        return _cut_parquet(path, name, shard_rows)
    return [
        Piece(file=name, first_row=first_row, num_rows=num_rows, start=start, end=end)
        for first_row, num_rows, start, end in cut_text(path, shard_rows, has_header=kind == "csv", has_quotes=kind == "csv")
    ]


def _cut_parquet(path: Path, name: str, shard_rows: int) -> list[Piece]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise BatchError(f"{name} is no Parquet file ({error}).") from None
    pieces: list[Piece] = []
    first_row = start = num_rows = 0
    for group in range(metadata.num_row_groups):
        num_rows += metadata.row_group(group).num_rows
        is_last = group == metadata.num_row_groups - 1
        if num_rows and (num_rows >= shard_rows or is_last):
            pieces.append(Piece(file=name, first_row=first_row, num_rows=num_rows, start=start, end=group + 1))
            first_row, start, num_rows = first_row + num_rows, group + 1, 0
    return pieces
