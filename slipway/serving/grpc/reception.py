"""Messages on their way: at any time so many as there is room for."""

import asyncio
from collections.abc import AsyncIterator

from slipway.errors import DeadlineError, RequestError


class Reception:
    """Takes clients' messages, `num_places` of them at a time.

    How large a message is shows only once all of it is there, so each counts as one of the largest size. gRPC lets a client send
    no more than the stream's window before its message is asked for: a call that waits for a place holds that much at most.
    """

    def __init__(self, num_places: int, *, message_seconds: float, call_seconds: float) -> None:
        """A message has `message_seconds` to arrive; with the wait for a place, `call_seconds`."""
        self._places = asyncio.Semaphore(num_places)
        self._message_seconds = message_seconds
        self._call_seconds = call_seconds

    async def read(self, messages: AsyncIterator[bytes]) -> bytes:
        """The first message of a call.

        Raises:
            DeadlineError: it did not arrive in time.
            RequestError: the call ended without one.
        """
        try:
            async with asyncio.timeout(self._call_seconds), self._places, asyncio.timeout(self._message_seconds):
                return await anext(messages)
        except StopAsyncIteration:
            raise RequestError("The call ended without a message; accepted: one.") from None
        except TimeoutError:
            raise DeadlineError("The message did not arrive in time.") from None
