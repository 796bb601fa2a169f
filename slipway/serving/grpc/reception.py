"""Messages on their way: at any time so many as there is room for."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from weakref import WeakValueDictionary

from slipway.errors import DeadlineError, RequestError


class Reception:
    """Takes clients' messages, `num_places` of them at a time, and of one client no more than half of that.

    How large a message is shows only once all of it is there, so each counts as one of the largest size. gRPC lets a client send
    no more than the stream's window before its message is asked for: a call that waits for a place holds that much at most.
    Whether a call sends anything is not seen before its message is there: a silent one has its place until its time is over.
    """

    def __init__(
        self, num_places: int, *, message_seconds: float, call_seconds: float, late_seconds: float | None = None
    ) -> None:
        """A message has `message_seconds` to arrive; with the wait for a place, `call_seconds` where the client states none.

        With `late_seconds`, for messages that are sent whole with their calls, the wait for a place counts: one that waited for
        `message_seconds` has been there all the time, or is not coming, and has only so long to be taken in. Then many silent
        calls hold up the others little longer than a few do.
        """
        self._places = asyncio.Semaphore(num_places)
        self._num_each = max(1, num_places // 2)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._message_seconds = message_seconds
        self._late_seconds = message_seconds if late_seconds is None else late_seconds
        self._call_seconds = call_seconds

    async def read(self, messages: AsyncIterator[bytes], *, client: str, seconds: float | None = None) -> bytes:
        """The first message of a call of this client, who waits for so long.

        Raises:
            DeadlineError: it did not arrive in time.
            RequestError: the call ended without one.
        """
        share = self._shares.setdefault(client, asyncio.Semaphore(self._num_each))
        wait = asyncio.timeout(self._call_seconds if seconds is None else seconds)
        begun_at = monotonic()
        try:
            async with wait, share, self._places:
                waited_seconds = monotonic() - begun_at
                async with asyncio.timeout(max(self._message_seconds - waited_seconds, self._late_seconds)):
                    return await anext(messages)
        except StopAsyncIteration:
            raise RequestError("The call ended without a message; accepted: one.") from None
        except TimeoutError:
            raise DeadlineError("The message did not arrive in time.") from None
