"""Doing many small transfers at once, with one end for all of them."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

from slipway.errors import StorageError

_Item = TypeVar("_Item")


class Deadline:
    """A time by which a transfer ends."""

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._end = monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left.

        Raises:
            StorageError: none are.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise StorageError(
                f"{self._what} did not end within {self._seconds:g} s. Check the network and the server's load; run it again."
            )
        return left


def run_parallel(action: Callable[[_Item], object], items: Iterable[_Item], deadline: Deadline, *, num_threads: int) -> None:
    """Apply `action` to every item; the first error ends it: what has not begun is not begun.

    Raises:
        StorageError: the deadline passed. What runs then is waited for: each request has an end of its own.
    """
    waiting = deque(items)

    def work() -> None:
        try:
            while True:
                deadline.remaining()
                try:
                    item = waiting.popleft()
                except IndexError:
                    return
                action(item)
        except BaseException:
            waiting.clear()
            raise

    with ThreadPoolExecutor(num_threads, thread_name_prefix="storage") as pool:
        workers = [pool.submit(work) for _ in range(min(num_threads, len(waiting)))]
    for worker in workers:
        worker.result()
