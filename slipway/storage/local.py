"""Files of this machine, by the same verbs as those of an object store."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from slipway.errors import ObjectMissingError, StorageError
from slipway.storage.files import staged_directory, staged_file, write_bytes
from slipway.storage.listing import StoredFile, files_below
from slipway.storage.uri import local_path


class LocalFiles:
    """Paths and `file://` URIs."""

    def read_bytes(self, uri: str) -> bytes:
        """The content of one file."""
        with explained_on_disk("Reading", uri):
            return _existing(uri).read_bytes()

    def read_part(self, uri: str, start: int, end: int) -> tuple[bytes, StoredFile]:
        """Some bytes of one file, and what was true of it when they had been read."""
        path = local_path(uri)
        try:
            handle = os.open(path, os.O_RDONLY)  # A Python file around it takes three times as long: a batch reads a million.
            try:
                content, status = _read_range(handle, start, end)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _missing(path) from None
        except OSError as error:
            raise _failure("Reading", uri, error) from error
        return content, _describe(path.name, status)

    def write_bytes(self, uri: str, content: bytes) -> None:
        """Replace one file; readers see the old or the new one."""
        with explained_on_disk("Writing", uri):
            write_bytes(local_path(uri), content)

    def find_file(self, uri: str) -> StoredFile | None:
        """Size and version of one file; None where there is none."""
        path = local_path(uri)
        with explained_on_disk("Looking up", uri), suppress(FileNotFoundError):
            if path.is_file():
                return _describe(path.name, path.stat())
        return None

    def delete(self, uri: str) -> None:
        """Remove one file, if it is there."""
        with explained_on_disk("Deleting", uri):
            local_path(uri).unlink(missing_ok=True)

    def delete_folder(self, uri: str, first: Sequence[str]) -> None:  # noqa: ARG002 (all files vanish at once)
        """Remove a folder with all that is in it, if it is there."""
        path = local_path(uri).resolve()
        if path == path.parent:
            raise StorageError(f"{uri} is the root folder; it is not deleted.")
        with explained_on_disk("Deleting", uri):
            if path.exists():
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as aside, suppress(FileNotFoundError):
                    os.rename(path, Path(aside) / "deleted")

    def list_files(self, uri: str) -> list[StoredFile]:
        """All files below `uri`, by name."""
        folder = local_path(uri)
        with explained_on_disk("Listing", uri):
            return list(_describe_files(folder)) if folder.is_dir() else []

    def upload_file(self, path: Path, uri: str) -> None:
        """Copy a file, which appears when it is complete."""
        with explained_on_disk("Writing", uri):
            _copy(path, local_path(uri))

    def download_file(self, uri: str, path: Path) -> None:
        """Copy a file, which appears when it is complete."""
        with explained_on_disk("Copying", uri):
            _copy(_existing(uri), path)

    def upload_folder(self, path: Path, uri: str, last: Sequence[str]) -> None:
        """Copy all files of a folder; those named in `last` after all others."""
        with explained_on_disk("Writing", uri):
            names = files_below(path)
            missing = [name for name in last if name not in names]
            if missing:
                raise StorageError(f"{path} holds no {', '.join(missing)}, to be copied last.")
            for name in [*(name for name in names if name not in last), *last]:
                _copy(path / name, local_path(uri) / name)

    def download_folder(self, uri: str, target: Path) -> None:
        """Copy all files below `uri` to the folder `target`, which appears when it is complete."""
        files = self.list_files(uri)
        if not files:
            raise StorageError(f"{uri} holds nothing. Check the path for a typing error.")
        with explained_on_disk("Copying", uri), staged_directory(target) as staging:
            self.fetch_files(uri, files, staging)

    def fetch_files(self, uri: str, files: Sequence[StoredFile], folder: Path) -> None:
        """Copy these files below `uri` into an existing folder."""
        for file in files:
            self.download_file(str(local_path(uri) / file.name), folder / file.name)


@contextmanager
def explained_on_disk(action: str, uri: str) -> Iterator[None]:
    """Explain the errors of this machine's files.

    Raises:
        StorageError: one could not be read, written or looked up.
    """
    try:
        yield
    except OSError as error:
        raise _failure(action, uri, error) from error


def _failure(action: str, uri: str, error: OSError) -> StorageError:
    place = f" ({error.filename})" if error.filename else ""
    return StorageError(f"{action} {uri} failed: {error.strerror or error}{place}. Once it can be done, run it again.")


def _existing(uri: str) -> Path:
    path = local_path(uri)
    if not path.is_file():
        raise _missing(path)
    return path


def _missing(path: Path) -> ObjectMissingError:
    return ObjectMissingError(f"There is no file {path}.")


def _describe(name: str, status: os.stat_result) -> StoredFile:
    return StoredFile(name=name, size_bytes=status.st_size, version=f"{status.st_mtime_ns:x}-{status.st_size:x}")


def _describe_files(folder: Path) -> Iterator[StoredFile]:
    for name in files_below(folder):
        try:
            yield _describe(name, (folder / name).stat())
        except FileNotFoundError:  # deleted since, or another's hidden file that has got its name
            continue


def _read_range(handle: int, start: int, end: int) -> tuple[bytes, os.stat_result]:
    """All bytes that the file has there; one call of the system may give fewer, and never gives over 2 GiB."""
    content, status = os.pread(handle, end - start, start), os.fstat(handle)
    while (place := start + len(content)) < min(end, status.st_size):
        more, status = os.pread(handle, end - place, place), os.fstat(handle)
        if not more and place < status.st_size:
            raise OSError(errno.EIO, f"it ends at byte {place}, and its size is {status.st_size}")
        content += more
    return content, status


def _copy(source: Path, target: Path) -> None:
    with staged_file(target) as staging:
        shutil.copyfile(source, staging)
