"""Python's search for garbage in cycles, kept away from the decoding of bodies."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """No search in any thread until the block ends, but for those that another thread's block lets happen as it ends.

    A body may hold millions of JSON values and no cycle among them: searched again and again while they become more, with the
    interpreter held, they would keep the event loop waiting for longer than their parsing does.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
