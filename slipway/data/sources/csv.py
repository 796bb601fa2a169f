"""`csv://FILE?target=COLUMN`: a table, one row a sample."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from slipway.data.sources.base import SourceFile, SourceUri, copy_files, hash_files
from slipway.errors import DataError

if TYPE_CHECKING:
    from slipway.data.raw import RawData

FORM = "csv://FILE?target=COLUMN"
OPTIONS = ("target", "categorical", "drop", "delimiter")


def model_name(uri: SourceUri) -> str:
    """The file's name without suffix."""
    return uri.path.stem


def compute_fingerprint(uri: SourceUri) -> str:
    """Of the file's bytes and the options."""
    options = [f"{name}={value}" for name, value in sorted(uri.options.items())]
    return hash_files([_find_file(uri)], *options)


def copy_source(uri: SourceUri, files_dir: Path) -> None:
    """Copy the file."""
    _require_target(uri)
    copy_files(uri, [_find_file(uri)], files_dir)


def open_copy(uri: SourceUri, files_dir: Path) -> "RawData":
    """Read the copy."""
    from slipway.data.tables import TableLayout, read_table

    delimiter = uri.options.get("delimiter", ",")
    if len(delimiter) != 1 or not delimiter.isascii():
        raise DataError(f"{uri.text}: delimiter is {delimiter!r}; accepted: one ASCII character (%09 for a tab).")
    layout = TableLayout(
        target=_require_target(uri),
        categorical=_split(uri.options.get("categorical", "")),
        drop=_split(uri.options.get("drop", "")),
        delimiter=delimiter,
    )
    return read_table(files_dir / _find_name(uri), uri.show(), layout)


def _find_file(uri: SourceUri) -> SourceFile:
    path = uri.path
    if not path.exists():
        raise DataError(f"{uri.text}: the file {path} does not exist. Correct the path in data.source.")
    if not path.is_file():
        raise DataError(f"{uri.text}: {path} is a folder; csv:// takes a file. For a folder of images use folder://.")
    return SourceFile(name=_find_name(uri), path=path)


def _find_name(uri: SourceUri) -> str:
    return uri.path.name


def _require_target(uri: SourceUri) -> str:
    target = uri.options.get("target", "")
    if not target:
        raise DataError(
            f"{uri.text} names no target. Say which column holds the class: {uri.text.partition('?')[0]}?target=COLUMN."
        )
    return target


def _split(names: str) -> tuple[str, ...]:
    return tuple(unquote(name) for name in names.split(",") if name)
