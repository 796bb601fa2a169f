"""Sources in an object store, `FORMAT+s3://BUCKET/KEY`: fetched into a folder of this machine, then read like any other."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from slipway.data.sources.base import SourceUri
from slipway.errors import DataError
from slipway.storage.files import hash_json
from slipway.storage.objects import ObjectStorage, StoredFile


def fingerprint_remote(uri: SourceUri, storage: ObjectStorage) -> str:
    """A hash of the listing (names, sizes, ETags) and the options: nothing is downloaded.

    Raises:
        DataError: nothing lies there.
        StorageError: the object store does not answer, or refuses.
    """
    found = storage.find_file(uri.remote_uri)
    files = [found] if found else _list_files(uri, storage)
    listing = sorted([file.name, file.size_bytes, file.version] for file in files)
    return hash_json(["s3", uri.scheme, listing, sorted(uri.options.items())])


@contextmanager
def mirrored(uri: SourceUri, storage: ObjectStorage, folder: Path) -> Iterator[SourceUri]:
    """Fetch a source below `folder` for the length of the block; errors about the copies name what they are copies of.

    Raises:
        DataError: nothing lies there.
        StorageError: the object store does not answer, or refuses.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".mirror-") as parent:
        mirror = Path(parent) / uri.location.rstrip("/")
        if storage.find_file(uri.remote_uri):
            storage.download_file(uri.remote_uri, mirror)
        else:
            mirror.mkdir(parents=True)
            storage.download_files(uri.remote_uri, _list_files(uri, storage), mirror)
        try:
            yield replace(uri, mirror=mirror)
        except DataError as error:
            raise type(error)(str(error).replace(f"{parent}/", "s3://")) from error


def _list_files(uri: SourceUri, storage: ObjectStorage) -> list[StoredFile]:
    """All but hidden ones."""
    files = [
        file
        for file in storage.list_files(uri.remote_uri)
        if not any(part.startswith(".") for part in PurePosixPath(file.name).parts)
    ]
    if not files:
        raise DataError(f"{uri.text}: {uri.remote_uri} does not exist, or holds no files. Correct the address in data.source.")
    return files
