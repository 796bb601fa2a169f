"""Nobody waits any more: what is done for a client that has gone away is cancelled."""

import asyncio
from contextlib import suppress
from types import TracebackType

from slipway.serving.http.messages import Disconnected, Receive

_IMPATIENT_SECONDS = 0.05
"""After which it is worth knowing whether the client still waits."""


class CancelOnDisconnect:
    """Cancels what is done in its block once the client has gone away. It looks only where that takes long.

    Raises:
        Disconnected: the client has gone away.
    """

    __slots__ = ("_is_gone", "_receive", "_task", "_timer", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._is_gone = False

    async def __aenter__(self) -> None:
        """Begin to wait."""
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_IMPATIENT_SECONDS, self._begin)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End to wait."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._is_gone and self._task is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise Disconnected from None

    def _begin(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        if self._task is not None:
            self._task.cancel()
