"""What a folder of an object store, or of this machine, holds."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slipway.errors import StorageError


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of a folder."""

    name: str
    """Relative to the folder, parts joined by `/`."""
    size_bytes: int
    version: str
    """Changes when the content does: S3's ETag; of a local file its time of change and size."""


def files_below(folder: Path) -> list[str]:
    """Names of all files below a local folder, sorted; folders that hold none are not seen, linked ones not entered.

    Raises:
        StorageError: it is no folder.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder} is no folder of this machine.")
    return sorted(_walk(folder, ""))


def _walk(folder: str | Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name


def check_names(uri: str, names: Iterable[str]) -> None:
    """Refuse names that would be written outside of the folder they are copied to.

    Raises:
        StorageError: one is absolute or climbs out by `..`.
    """
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise StorageError(f"{uri} holds a file named {name!r}, which could lie outside of the folder. Rename or delete it.")
