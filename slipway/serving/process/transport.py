"""What an answer is written to."""

import asyncio
from collections.abc import Callable

_MOST_BYTES_JOINED = 1 << 16
_ANSWER_START, _GO_ON = b"HTTP/1.1 ", b"HTTP/1.1 100 "


class PoliteTransport:
    """A transport whose `close` is the connection's own, and which sends an answer's head together with its body.

    An application says both in one go: the head waits for the body or for the answer's end, whichever is first.
    """

    __slots__ = ("_close", "_head", "_write", "abort", "get_extra_info", "is_closing")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]) -> None:
        self._write = transport.write
        self._close = close
        self._head = b""
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.is_closing = is_closing

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if self._head:
            head, self._head = self._head, b""
            if len(data) > _MOST_BYTES_JOINED:
                self._write(head)
            else:
                data = head + data
        elif data.startswith(_ANSWER_START) and not data.startswith(_GO_ON):
            self._head = data
            return
        self._write(data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        self.flush()
        self._close()
