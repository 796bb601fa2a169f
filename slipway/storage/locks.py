"""Letting one process at a time change a folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


@contextmanager
def hold_lock(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock file `path`; the system releases it when the process ends, however it ends.

    Raises:
        TimeoutError: another process held it for longer than `timeout_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as stream:
        while not _try_lock(stream.fileno()):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} has been locked by another process for {timeout_seconds:g} s.")
            time.sleep(_POLL_SECONDS)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path` now."""
    if not path.exists():
        return False
    with path.open("a") as stream:
        return not _try_lock(stream.fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
