"""Copying a source into a folder of our own, with a record of where it came from.

The folder (`raw_dir`) then holds `files/`, the copies; `index.arrow`, one row a sample with its content hash and what is wrong
with it; and `provenance.json`. Importing this module imports no numpy.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from slipway import __version__
from slipway.data.provenance import FILES_NAME, INDEX_NAME, Provenance, write_provenance
from slipway.data.sources.base import SourceFile, SourceUri, hash_files, slugify
from slipway.data.sources.registry import parse_source
from slipway.data.sources.remote import fingerprint_remote, mirrored
from slipway.errors import DataError
from slipway.settings import Settings, load_settings
from slipway.storage.files import staged_directory
from slipway.storage.objects import ObjectStorage


def ingest_source(source: str, raw_dir: Path, *, settings: Settings | None = None) -> Provenance:
    """Copy all of `source` into `raw_dir`, replacing what was there, and look at each sample once.

    `settings` (those of the environment by default) say where a source in an object store is fetched from.

    Raises:
        DataError: the source cannot be found or read as what it claims to be. Nothing is written then.
        StorageError: the object store that it lies in does not answer, or refuses.
    """
    from slipway.data.index import build_index, write_index

    uri, reader = parse_source(source)
    with staged_directory(raw_dir) as staging:
        files_dir = staging / FILES_NAME
        files_dir.mkdir()
        with _name_unreadable(source), _at_hand(uri, staging, settings) as found:
            reader.copy_source(found, files_dir)
        index = build_index(reader.open_copy(uri, files_dir))
        write_index(staging / INDEX_NAME, index)
        files = [
            SourceFile(name=path.relative_to(files_dir).as_posix(), path=path)
            for path in sorted(files_dir.rglob("*"))
            if path.is_file()
        ]
        provenance = Provenance(
            source=source,
            kind=uri.scheme,
            content_hash=hash_files(files),
            num_files=len(files),
            size_bytes=sum(file.path.stat().st_size for file in files),
            num_samples=index.num_samples,
            slipway_version=__version__,
        )
        write_provenance(staging, provenance)
    return provenance


def fingerprint_source(source: str, *, settings: Settings | None = None) -> str:
    """A hash that changes when, and only when, ingesting `source` would give something else.

    In an object store the listing is looked at, not the content: writing a file again may change it.

    Raises:
        DataError: the source cannot be found.
        StorageError: the object store that it lies in does not answer, or refuses.
    """
    uri, reader = parse_source(source)
    if uri.is_remote:
        return fingerprint_remote(uri, ObjectStorage(settings or load_settings()))
    with _name_unreadable(source):
        return reader.compute_fingerprint(uri)


def _at_hand(uri: SourceUri, folder: Path, settings: Settings | None) -> AbstractContextManager[SourceUri]:
    return mirrored(uri, ObjectStorage(settings or load_settings()), folder) if uri.is_remote else nullcontext(uri)


@contextmanager
def _name_unreadable(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{source}: {error.filename or 'a file'} cannot be read or copied ({error.strerror or error}). "
            "Check its permissions and the free space."
        ) from error


def default_model_name(source: str) -> str:
    """The name of a model trained on `source` where none is given: `digits` for `sklearn://digits`."""
    uri, reader = parse_source(source)
    return slugify(reader.model_name(uri))
