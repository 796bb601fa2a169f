"""Files that are read again when they change: tokens, certificates."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from slipway.errors import ConfigError
from slipway.log import get_logger

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
        self._told = ""

    def read_changed(self, read: Callable[[], T]) -> T | None:
        """What `read` gives, which must not be None; None where nothing has changed since it gave something.

        Raises:
            Exception: `read` does. It is called again the next time: half of a change may have been there.
        """
        stamp = read_stamp(self.paths)  # before they are read, or a change of then would never be seen
        if stamp is not None and stamp == self._stamp:
            return None
        self._stamp = None  # what was there before may come back: that is a change too
        content = read()
        self._stamp = stamp
        return content

    def read_again(self, read: Callable[[], T], *, failure: str) -> T | None:
        """`read_changed` for files in use, for which what was read before goes on where they are missing or wrong.

        That is logged as the event `failure`: once, however often they are looked at, until it is something else that is wrong.
        """
        try:
            content = self.read_changed(read)
        except (ConfigError, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                get_logger(__name__).error(failure, error=self._told)
            return None
        self._told = ""
        return content
