"""Files that are read again when they change: tokens, certificates."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Stamp = tuple[tuple[int, int, int], ...]
T = TypeVar("T")


def read_stamp(paths: Iterable[Path]) -> Stamp | None:
    """What changes when one of the files does; None where one is not there."""
    try:
        return tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in (path.stat() for path in paths))
    except OSError:
        return None


class ChangingFiles:
    """Knows whether files are still what they were when they were last read. None has been read in the beginning."""

    def __init__(self, *paths: Path | None) -> None:
        """None stands for a file that is not used."""
        self.paths = tuple(path for path in paths if path is not None)
        self._stamp: Stamp | None = None

    def read_changed(self, read: Callable[[], T]) -> T | None:
        """What `read` gives, which must not be None; None where nothing has changed since it gave something.

        Raises:
            Exception: `read` does. It is called again the next time: half of a change may have been there.
        """
        stamp = read_stamp(self.paths)  # before they are read, or a change of then would never be seen
        if stamp is not None and stamp == self._stamp:
            return None
        content = read()
        self._stamp = stamp
        return content
