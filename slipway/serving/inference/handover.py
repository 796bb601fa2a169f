"""Results of the batcher's threads, handed over to the event loops that wait for them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from slipway.serving.inference.waiting import Waiting


@dataclass(slots=True, eq=False)
class Call:
    """A plain function to be run off the event loop."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"

    def run(self) -> None:
        """Run it, and hand over what it gives or raises."""
        outcome: Any
        try:
            outcome = self.function()
        except Exception as error:  # noqa: BLE001 whatever it is, it is the caller's
            outcome = without_frames(error)
        hand_over([(self, outcome)])


def without_frames(error: Exception) -> Exception:
    """An error for another thread: what it was raised from, and the bodies and arrays there, can leave memory."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def hand_over(results: Sequence[tuple[Waiting | Call, Any]]) -> None:
    """Results, errors among them, to those who wait for them; one wake-up a loop."""
    for loop in {one.loop for one, _ in results}:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_resolve, [(one.future, result) for one, result in results if one.loop is loop])


def _resolve(results: Sequence[tuple["asyncio.Future[Any] | None", Any]]) -> None:
    for future, result in results:
        if future is None or future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
