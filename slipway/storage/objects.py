"""Reading and writing files by URI, wherever they lie: `s3://BUCKET/KEY`, or a path of this machine."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from slipway.errors import ObjectChangedError, ObjectMissingError
from slipway.settings import Settings
from slipway.storage.connection import Limits
from slipway.storage.files import staged_directory
from slipway.storage.listing import StoredFile
from slipway.storage.local import LocalFiles
from slipway.storage.publication import PUBLICATION_NAME, PublishedFile, check_files, describe_folder, parse_list, write_list
from slipway.storage.remote import RemoteFiles
from slipway.storage.uri import is_remote, join_uri, local_path

__all__ = ["ObjectChangedError", "ObjectMissingError", "ObjectStorage", "StoredFile"]

_DEFAULT_LIMITS = Limits()


class ObjectStorage:
    """All of Slipway's files, by URI.

    A call either does all it says or raises StorageError; it can then be repeated. Folders have no existence of their own: one
    without files is not there. Use one instance a process: it keeps connections, which do not survive a fork.
    """

    def __init__(self, settings: Settings, *, limits: Limits = _DEFAULT_LIMITS) -> None:
        self._settings = settings
        self._limits = limits
        self._local = LocalFiles()

    def read_bytes(self, uri: str) -> bytes:
        """The content of one file.

        Raises:
            ObjectMissingError: there is none of this name.
        """
        return self._at(uri).read_bytes(uri)

    def read_part(self, uri: str, start: int, end: int, *, version: str) -> bytes:
        """Bytes `start` to `end` (not included, at most the file's size) of a file that is still of this version.

        Raises:
            ObjectMissingError: there is none of this name.
            ObjectChangedError: it is of another version.
        """
        content, found = self._at(uri).read_part(uri, start, end)
        if found.version != version:
            raise ObjectChangedError(f"{uri} is not what it was: its version is {found.version} now, not {version}.")
        return content

    def write_bytes(self, uri: str, content: bytes) -> None:
        """Replace one file: readers see the old or the new one, never a part."""
        self._at(uri).write_bytes(uri, content)

    def exists(self, uri: str) -> bool:
        """Whether there is a file of this name (a folder is none)."""
        return self._at(uri).find_file(uri) is not None

    def find_file(self, uri: str) -> StoredFile | None:
        """Size and version of one file, by the last part of its name; None where there is no such file."""
        return self._at(uri).find_file(uri)

    def delete(self, uri: str) -> None:
        """Remove one file, if it is there."""
        self._at(uri).delete(uri)

    def delete_folder(self, uri: str) -> None:
        """Remove all files below `uri`, if there are any; a published folder stops being one first."""
        self._at(uri).delete_folder(uri, first=[PUBLICATION_NAME])

    def list_files(self, uri: str) -> list[StoredFile]:
        """All files below the folder `uri`, at any depth, by name; none where there is no such folder."""
        return self._at(uri).list_files(uri)

    def upload_file(self, path: Path, uri: str) -> None:
        """Copy a local file to `uri`, where it appears when it is complete."""
        self._at(uri).upload_file(path, uri)

    def download_file(self, uri: str, path: Path) -> None:
        """Copy the file at `uri` to `path`, where it appears when it is complete.

        Raises:
            ObjectMissingError: there is none of this name.
        """
        self._at(uri).download_file(uri, path)

    def upload_folder(self, path: Path, uri: str, *, last: Sequence[str] = ()) -> None:
        """Copy all files of a local folder below `uri`; those named in `last` after all others, in this order.

        Files of other names that are there already stay.
        """
        self._at(uri).upload_folder(path, uri, last)

    def download_folder(self, uri: str, target: Path) -> None:
        """Copy all files below `uri` to the folder `target`, which appears when it is complete and replaces what was there.

        Raises:
            StorageError: there is nothing, or a name that would leave the folder.
        """
        self._at(uri).download_folder(uri, target)

    def download_files(self, uri: str, files: Sequence[StoredFile], folder: Path) -> None:
        """Copy some of the files that `list_files` found below `uri` into an existing folder, each under its name."""
        self._at(uri).fetch_files(uri, files, folder)

    def publish_folder(self, path: Path, uri: str) -> None:
        """Make the folder at `uri` hold the files of a local one, and say so last, with the hash of each.

        Whoever fetches it meanwhile gets the old folder, the new one or an error, never a mix. Publishing what is there
        already uploads nothing.
        """
        files = describe_folder(path)
        if not is_remote(uri):
            self._publish_locally(path, files, uri)
            return
        published, content = join_uri(uri, PUBLICATION_NAME), write_list(files)
        present = self.list_files(uri)
        if self._holds(present, files) and self.read_bytes(published) == content:
            return
        self.delete(published)
        self.upload_folder(path, uri)
        kept = {PUBLICATION_NAME, *(file.name for file in files)}
        self._remote.delete_files(uri, [file.name for file in present if file.name not in kept])
        self.write_bytes(published, content)

    def fetch_folder(self, uri: str, target: Path) -> None:
        """Copy a published folder to `target`, which appears when every file has the hash it was published with.

        Raises:
            ObjectMissingError: there is no published folder; data that lies there was never finished.
            StorageError: a file is missing or was altered.
        """
        files = self.read_published(uri)
        stored = [StoredFile(name=file.name, size_bytes=file.size_bytes, version="") for file in files]
        with staged_directory(target) as staging:
            self._at(uri).fetch_files(uri, stored, staging)
            check_files(files, staging, uri)

    def is_published(self, uri: str) -> bool:
        """Whether `fetch_folder` would find a folder here."""
        return self.exists(join_uri(uri, PUBLICATION_NAME))

    def read_published(self, uri: str) -> list[PublishedFile]:
        """What a published folder holds, with the hash of each file.

        Raises:
            ObjectMissingError: there is no published folder.
        """
        return parse_list(self.read_bytes(join_uri(uri, PUBLICATION_NAME)), join_uri(uri, PUBLICATION_NAME))

    def _publish_locally(self, path: Path, files: Sequence[PublishedFile], uri: str) -> None:
        with staged_directory(local_path(uri)) as staging:
            self._local.upload_folder(path, str(staging), ())
            (staging / PUBLICATION_NAME).write_bytes(write_list(files))

    @staticmethod
    def _holds(present: Sequence[StoredFile], files: Sequence[PublishedFile]) -> bool:
        sizes = {file.name: file.size_bytes for file in present}
        complete = all(sizes.get(file.name) == file.size_bytes for file in files)
        return complete and PUBLICATION_NAME in sizes and len(sizes) == len(files) + 1

    @cached_property
    def _remote(self) -> RemoteFiles:
        return RemoteFiles(self._settings, self._limits)

    def _at(self, uri: str) -> RemoteFiles | LocalFiles:
        return self._remote if is_remote(uri) else self._local
