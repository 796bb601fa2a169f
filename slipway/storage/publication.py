"""A folder's own list of its files, written after all of them: who finds it finds the folder whole."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.errors import ObjectMissingError, StorageError
from slipway.storage.files import hash_file
from slipway.storage.listing import check_names, files_below

PUBLICATION_NAME = "publication.json"
"""Not `manifest.json`: a data set has a file of that name."""
_FORMAT_VERSION = 1
_NUM_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file as it was when the folder was published."""

    name: str
    size_bytes: int
    sha256: str


def describe_folder(folder: Path) -> list[PublishedFile]:
    """All files of a folder with their sizes and hashes.

    Raises:
        StorageError: it is no folder, is empty, or has a file of the list's own name.
    """
    names = files_below(folder)
    if not names:
        raise StorageError(f"{folder} holds nothing to publish.")
    if PUBLICATION_NAME in names:
        raise StorageError(f"{folder / PUBLICATION_NAME} has the name of the list that publishing adds. Remove or rename it.")
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        hashes = list(pool.map(lambda name: hash_file(folder / name), names))
    return [
        PublishedFile(name=name, size_bytes=(folder / name).stat().st_size, sha256=digest)
        for name, digest in zip(names, hashes, strict=True)
    ]


def write_list(files: Sequence[PublishedFile]) -> bytes:
    """The list as it is stored; equal folders give equal bytes."""
    content = {"format_version": _FORMAT_VERSION, "files": [asdict(file) for file in files]}
    return (json.dumps(content, indent=2) + "\n").encode()


def parse_list(content: bytes, uri: str) -> list[PublishedFile]:
    """Read a stored list.

    Raises:
        StorageError: it is damaged, of another format, or names a file outside of its folder.
    """
    try:
        stored = json.loads(content)
        if stored["format_version"] != _FORMAT_VERSION:
            raise StorageError(f"{uri} is of format {stored['format_version']}; this Slipway reads {_FORMAT_VERSION}.")
        files = [PublishedFile(**entry) for entry in stored["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{uri} is damaged ({error!r}). Delete its folder and publish it again.") from None
    check_names(uri, (file.name for file in files))
    return files


def check_files(files: Sequence[PublishedFile], folder: Path, uri: str) -> None:
    """Compare the files of a folder that was fetched from `uri` with what was published.

    Raises:
        ObjectMissingError: one is no longer there.
        StorageError: one was altered since.
    """
    for file in files:
        if not (folder / file.name).is_file():
            raise ObjectMissingError(
                f"There is no {uri}/{file.name}, which was published. Delete the folder and publish it again."
            )
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        hashes = list(pool.map(lambda file: hash_file(folder / file.name), files))
    for file, digest in zip(files, hashes, strict=True):
        if digest != file.sha256:
            raise StorageError(
                f"{uri}/{file.name} was altered after it was published: its SHA-256 is {digest[:12]}, not {file.sha256[:12]}... "
                "Delete the folder and publish it again."
            )
