"""How the process ends: a signal begins it, a second one hurries it, and it is over within its grace whatever it is at."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from slipway.log import get_logger
from slipway.serving.process.options import LifeOptions

_HURRIED_SECONDS = 1.0
_CLEAN_UP_SECONDS = 3.0
_READ_BYTES = 1024


class Ending:
    """Called with signals. SIGTERM: go on answering for `drain_seconds`, no longer ready; then stop, as SIGINT does at once."""

    def __init__(
        self, options: LifeOptions, *, drain: Callable[[], None], stop: Callable[[], None], hurry: Callable[[], None]
    ) -> None:
        self._options = options
        self._drain = drain
        self._stop = stop
        self._hurry = hurry
        self._begun = False

    def handle_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """Begin to end, or end at once where it has begun."""
        if self._begun:
            _end_within(_HURRIED_SECONDS)
            self._hurry()
        else:
            self.begin(drain_seconds=self._options.drain_seconds if number == signal.SIGTERM else 0.0)

    def begin(self, *, drain_seconds: float = 0.0) -> None:
        """Stop once what has begun is answered, or the grace is over; go on answering for `drain_seconds` before."""
        self._begun = True
        _end_within(drain_seconds + self._options.grace_seconds + _CLEAN_UP_SECONDS)
        self._drain()
        if drain_seconds:
            _start_timer(drain_seconds, self._stop)
        else:
            self._stop()


def end_cleanly_on_signals() -> None:
    """Signals end the process with status 0, whatever its threads are at: while there is nothing yet that could be answered."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def end_when_stdin_closes(end: Callable[[], None]) -> None:
    """Call `end` once standard input is closed."""

    def read_on() -> None:
        while os.read(sys.stdin.fileno(), _READ_BYTES):  # unbuffered: a reader that holds sys.stdin's lock aborts the exit
            pass
        end()

    threading.Thread(target=read_on, daemon=True).start()


def leave_now(status: int) -> NoReturn:
    """End the process without waiting for threads: one may be in the middle of an inference."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_within(seconds: float) -> None:
    def leave() -> None:
        get_logger(__name__).warning("grace_is_over", seconds=seconds)
        leave_now(0)

    _start_timer(seconds, leave)


def _start_timer(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
