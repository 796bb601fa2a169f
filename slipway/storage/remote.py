"""Files in the buckets of an S3 server, through obstore.

Over plain http every request is signed over its content's SHA-256, so that a server refuses what was altered on its way there;
over https TLS does that. A folder's own list (`publication`) tells what was altered since.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slipway.errors import ObjectMissingError, StorageError
from slipway.settings import Settings
from slipway.storage.causes import find_code
from slipway.storage.connection import Limits, open_bucket
from slipway.storage.files import staged_directory, staged_file
from slipway.storage.listing import StoredFile, check_names, files_below
from slipway.storage.local import explained_on_disk
from slipway.storage.parallel import Deadline, run_parallel
from slipway.storage.refusals import explained
from slipway.storage.uri import S3Location, parse_s3

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions, ObjectMeta
    from obstore.store import S3Store

WHOLE_BYTES = 8 << 20
"""Files up to this size travel in one request, larger ones in parts."""
PART_BYTES = 16 << 20
"""S3 takes no part below 5 MiB but the last."""
_NUM_PARTS = 9_000  # of a file; S3 takes 10,000
_WRITE_BYTES = 1 << 20
_PAGE_FILES = 1_000
_NUM_FILES_AT_ONCE = 16
_NUM_PARTS_AT_ONCE = 4


class _Part(NamedTuple):
    start: int
    end: int


class RemoteFiles:
    """`s3://` URIs at the settings' endpoint. Every method raises StorageError where it cannot do what it says."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._stores: dict[str, S3Store] = {}

    def read_bytes(self, uri: str) -> bytes:
        """The content of one object."""
        import obstore

        location = _parse_key(uri)
        with self._explained(location, "Reading"):
            return obstore.get(self._open(location.bucket), location.key).bytes().to_bytes()

    def read_part(self, uri: str, start: int, end: int) -> tuple[bytes, StoredFile]:
        """Some bytes of one object, and what is known of the whole that they are of."""
        location = _parse_key(uri)
        content, found = self._read_range(location, "Reading", _Part(start, end))
        return bytes(content), _describe(found, location)

    def write_bytes(self, uri: str, content: bytes) -> None:
        """Replace one object; readers see the old or the new one."""
        import obstore

        location = _parse_key(uri)
        with self._explained(location, "Writing"):
            obstore.put(
                self._open(location.bucket),
                location.key,
                content,
                use_multipart=len(content) > PART_BYTES,
                chunk_size=PART_BYTES,
                max_concurrency=_NUM_PARTS_AT_ONCE,
            )

    def find_file(self, uri: str) -> StoredFile | None:
        """Size and version of one object; None where there is none.

        A byte of it is read: the answer to a HEAD request does not say whether key or bucket is missing, or what else is wrong.
        """
        location = _parse_key(uri)
        try:
            _, found = self._read_range(location, "Looking up", _Part(0, 1))
        except ObjectMissingError:
            return None
        return _describe(found, location)

    def delete(self, uri: str) -> None:
        """Remove one object, if it is there."""
        self._delete(_parse_key(uri), [_parse_key(uri).key])

    def delete_folder(self, uri: str, first: Sequence[str]) -> None:
        """Remove all objects below `uri`; those named in `first` before all others."""
        _parse_key(uri)
        names = [file.name for file in self.list_files(uri)]
        for group in ([name for name in names if name in first], [name for name in names if name not in first]):
            self.delete_files(uri, group)

    def delete_files(self, uri: str, names: Sequence[str]) -> None:
        """Remove these objects below `uri`."""
        location = _parse_key(uri)
        self._delete(location, [location.prefix + name for name in names])

    def list_files(self, uri: str) -> list[StoredFile]:
        """All objects below `uri`, by name."""
        import obstore

        location = parse_s3(uri)
        with self._explained(location, "Listing"):
            pages = obstore.list(self._open(location.bucket), location.key or None, chunk_size=_PAGE_FILES)
            found = [_to_file(entry, location) for page in pages for entry in page if entry["path"] != location.key]
        return _without_markers(found)

    def upload_file(self, path: Path, uri: str) -> None:
        """Copy a file to an object, which appears when it is complete."""
        self._upload(path, _parse_key(uri), self._start(f"Uploading {path} to {uri}"))

    def download_file(self, uri: str, path: Path) -> None:
        """Copy an object to a file, which appears when it is complete."""
        deadline = self._start(f"Downloading {uri}")
        with staged_file(path) as staging:
            self._download(_parse_key(uri), staging, deadline)

    def upload_folder(self, path: Path, uri: str, last: Sequence[str]) -> None:
        """Copy all files of a folder; those named in `last` after all others, one by one."""
        location = _parse_key(uri)
        deadline = self._start(f"Uploading {path} to {uri}")
        files = {name: path / name for name in files_below(path)}
        missing = [name for name in last if name not in files]
        if missing:
            raise StorageError(f"{path} holds no {', '.join(missing)}, to be uploaded last.")

        def upload(name: str) -> None:
            self._upload(files[name], S3Location(bucket=location.bucket, key=location.prefix + name), deadline)

        first = [name for name in files if name not in last]
        small = [name for name in first if files[name].stat().st_size <= WHOLE_BYTES]
        run_parallel(upload, small, deadline, num_threads=_NUM_FILES_AT_ONCE)
        for name in [*sorted(set(first) - set(small)), *last]:
            upload(name)

    def download_folder(self, uri: str, target: Path) -> None:
        """Copy all objects below `uri` to the folder `target`, which appears when it is complete."""
        files = self.list_files(uri)
        if not files:
            raise StorageError(f"{uri} holds nothing (endpoint {self._settings.s3_endpoint}). Check the URI for a typing error.")
        with staged_directory(target) as staging:
            self.fetch_files(uri, files, staging)

    def fetch_files(self, uri: str, files: Sequence[StoredFile], folder: Path) -> None:
        """Copy these files below `uri` into an existing folder."""
        location = parse_s3(uri)
        deadline = self._start(f"Downloading {uri}")
        check_names(uri, (file.name for file in files))
        for parent in {(folder / file.name).parent for file in files}:
            parent.mkdir(parents=True, exist_ok=True)

        def download(file: StoredFile) -> None:
            key = location.prefix + file.name
            try:
                self._download(S3Location(bucket=location.bucket, key=key), folder / file.name, deadline)
            except ObjectMissingError:
                if file.size_bytes:
                    raise  # else it marks an empty folder: its key ends in a slash, which obstore does not tell

        run_parallel(
            download, [file for file in files if file.size_bytes <= WHOLE_BYTES], deadline, num_threads=_NUM_FILES_AT_ONCE
        )
        for file in files:
            if file.size_bytes > WHOLE_BYTES:
                download(file)

    def _upload(self, path: Path, location: S3Location, deadline: Deadline) -> None:
        import obstore

        with explained_on_disk("Reading", str(path)):
            size_bytes = path.stat().st_size
            content = path.read_bytes() if size_bytes <= WHOLE_BYTES else b""
        store = self._open(location.bucket)
        deadline.remaining()
        if size_bytes <= WHOLE_BYTES:
            with self._explained(location, "Uploading to"):
                obstore.put(store, location.key, content, use_multipart=False)
            return
        part_bytes = max(PART_BYTES, -(-size_bytes // _NUM_PARTS))
        parts = _read_parts(path, part_bytes, deadline)
        with self._explained(location, "Uploading to"):
            obstore.put(store, location.key, parts, use_multipart=True, chunk_size=part_bytes, max_concurrency=_NUM_PARTS_AT_ONCE)

    def _download(self, location: S3Location, path: Path, deadline: Deadline) -> None:
        """Write an object to `path`: its first part tells the size of the whole, the others follow at once."""
        deadline.remaining()
        content, found = self._read_range(location, "Downloading", _Part(0, WHOLE_BYTES))
        with path.open("wb") as stream:
            stream.write(content)
            stream.flush()
            starts = range(len(content), found["size"], PART_BYTES)
            if starts:
                parts = [_Part(start, min(start + PART_BYTES, found["size"])) for start in starts]
                copy = partial(self._copy_part, location, found["e_tag"], stream.fileno())
                run_parallel(copy, parts, deadline, num_threads=_NUM_PARTS_AT_ONCE)

    def _read_range(self, location: S3Location, action: str, part: _Part) -> "tuple[Bytes | bytes, ObjectMeta]":
        """Some bytes of an object, none where it ends before them, and what is known of the whole."""
        import obstore
        from obstore.exceptions import BaseError

        store = self._open(location.bucket)
        with self._explained(location, action):
            try:
                result = obstore.get(store, location.key, options={"range": (part.start, part.end)})
                return result.bytes(), result.meta
            except BaseError as error:
                if find_code(str(error)) != "InvalidRange":
                    raise
                return b"", obstore.head(store, location.key)

    def _copy_part(self, location: S3Location, etag: str | None, descriptor: int, part: _Part) -> None:
        import obstore

        with self._explained(location, "Downloading"):
            options: GetOptions = {"range": (part.start, part.end), "if_match": etag}
            pieces = obstore.get(self._open(location.bucket), location.key, options=options).stream(_WRITE_BYTES)
            offset = part.start
            for piece in pieces:
                offset += os.pwrite(descriptor, piece, offset)

    def _delete(self, location: S3Location, keys: list[str]) -> None:
        import obstore

        if keys:
            with self._explained(location, "Deleting"):
                obstore.delete(self._open(location.bucket), keys)

    def _start(self, what: str) -> Deadline:
        return Deadline(self._limits.transfer_seconds, what)

    def _explained(self, location: S3Location, action: str) -> AbstractContextManager[None]:
        return explained(self._settings.s3_endpoint, location, action)

    def _open(self, bucket: str) -> "S3Store":
        if bucket not in self._stores:
            self._stores[bucket] = open_bucket(self._settings, bucket, self._limits)
        return self._stores[bucket]


def _read_parts(path: Path, part_bytes: int, deadline: Deadline) -> Iterator[bytes]:
    """An error raised here ends the upload, and what was sent of it is dropped."""
    with path.open("rb") as stream:
        while part := stream.read(part_bytes):
            deadline.remaining()
            yield part


def _parse_key(uri: str) -> S3Location:
    location = parse_s3(uri)
    if not location.key:
        raise StorageError(f"{uri!r} names a whole bucket. Accepted: s3://BUCKET/KEY.")
    return location


def _describe(entry: "ObjectMeta", location: S3Location) -> StoredFile:
    """By the last part of its name."""
    return _to_file(entry, S3Location(bucket=location.bucket, key=location.key.rpartition("/")[0]))


def _to_file(entry: "ObjectMeta", location: S3Location) -> StoredFile:
    version = entry["e_tag"] or entry["version"] or entry["last_modified"].isoformat()
    return StoredFile(name=entry["path"].removeprefix(location.prefix), size_bytes=entry["size"], version=version.strip('"'))


def _without_markers(files: list[StoredFile]) -> list[StoredFile]:
    """Sorted, without the empty objects by which some tools mark a folder that has files."""
    folders = {parent for file in files for parent in _parents(file.name)}
    return sorted((file for file in files if file.size_bytes or file.name not in folders), key=lambda file: file.name)


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
