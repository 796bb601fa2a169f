"""Files of a batch prediction, read where they lie, and only while they are what was listed when it was planned."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.errors import BatchError, ObjectChangedError, ObjectMissingError
from slipway.storage.listing import StoredFile
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK_BYTES = 1 << 22


class InputFile(io.RawIOBase):
    """One file of the input. Every read asks for the listed version: what was read is of one content, or there is an error."""

    def __init__(self, storage: ObjectStorage, folder: str, file: StoredFile) -> None:
        super().__init__()
        self.name = file.name
        self._storage = storage
        self._uri = join_uri(folder, file.name)
        self._file = file
        self._place = 0

    def read_range(self, start: int, end: int) -> bytes:
        """Some bytes.

        Raises:
            BatchError: the file has changed, or is gone.
            StorageError: it cannot be read.
        """
        return self._read(start, end) if start < end else b""

    def _read(self, start: int, end: int) -> bytes:
        try:
            return self._storage.read_part(self._uri, start, end, version=self._file.version)
        except (ObjectMissingError, ObjectChangedError) as error:
            happened = "was removed" if isinstance(error, ObjectMissingError) else "has changed"
            raise BatchError(
                f"{self._uri} {happened} since it was listed for this batch prediction. Choose another output folder: it gets "
                "the answers to what is there then."
            ) from None

    def read_whole(self) -> bytes:
        """All of it; of an empty file, that it is still empty."""
        return self._read(0, max(self._file.size_bytes, 1))

    def read_blocks(self, start: int = 0, end: int | None = None, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """A part of it, or all, a block at a time."""
        end = self._file.size_bytes if end is None else end
        for place in range(start, end, block_bytes):
            yield self.read_range(place, min(place + block_bytes, end))

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase`."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size_bytes}[whence]
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")
        content = self.read_range(self._place, min(self._place + len(view), self._file.size_bytes))
        view[: len(content)] = content
        self._place += len(content)
        return len(content)
