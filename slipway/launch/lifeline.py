"""What ends the pods of a training when their launcher does: deletion on a signal, and a lease that must be renewed.

The third way, the ownerReference to the launching pod, is Kubernetes' own. A terminated pipeline run leaves the pod in place, so
that it alone ends nothing then; a killed node runs no handler; and a lease takes its time: each covers for the others.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from slipway.errors import ClusterError
from slipway.launch.workload import Workload
from slipway.log import get_logger

_RENEWALS = 4
"""In the time of one lease."""

log = get_logger(__name__)


@contextmanager
def deleted_on_signal(delete: Callable[[], None]) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT call `delete` before anything else, then what they called before.

    Little time is left once they arrive. `delete` must not use what the main thread may hold a lock of, such as a connection
    pool of its own: the handler runs in the middle of whatever that thread was doing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous: dict[int, Any] = {}
    failures: list[ClusterError] = []

    def end(number: int, frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)  # a second one must not break off the deletion
        try:
            delete()
        except ClusterError as error:  # not logged here: the main thread may hold the log's lock
            failures.append(error)
        for one in numbers:
            signal.signal(one, previous[one])
        if callable(previous[number]):
            previous[number](number, frame)
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for error in failures:
            log.error("not deleted on a signal; it ends with its lease", error=str(error))


class Lease:
    """Holds off a workload's end from a thread of its own, for as long as its block runs, if it has an end to hold off.

    A renewal that fails is tried again: the lease is several times as long as the time between two.
    """

    def __init__(self, workload: Workload, name: str) -> None:
        self._workload = workload
        self._name = name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="training-lease", daemon=True)

    def __enter__(self) -> "Lease":
        if self._workload.lease_seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _hold(self) -> None:
        while not self._ended.is_set():
            try:
                status = self._workload.read(self._name)
                if status is not None and status.state == "running" and not status.deleting:
                    self._workload.renew(status)
            except ClusterError as error:
                log.warning("lease not renewed; trying again", workload=self._name, error=str(error))
            self._ended.wait(self._workload.lease_seconds / _RENEWALS)
