"""A client that can also do what a good one does not: send a part, read slowly, leave."""

import asyncio
import re
from dataclasses import dataclass
from typing import Self

ANSWER_SECONDS = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, whole."""

    status: int
    head: bytes
    body: bytes


class Connection:
    """One TCP connection, opened when it is needed and kept while the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        _, writer = await self._open()
        writer.write(data)
        await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer; a kept connection that the server has closed meanwhile is opened anew, once."""
        was_open = self._streams is not None
        try:
            await self.send(request)
            return await self.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            if not was_open:
                raise
        await self.send(request)
        return await self.read()

    async def read(self, *, pause_seconds: float = 0.0) -> Answer:
        """The next answer; with a pause, its body is taken in small pieces."""
        reader, _ = await self._open()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_SECONDS)
        length = _LENGTH.search(head)
        body = b""
        if length and pause_seconds:
            while len(body) < int(length[1]):
                body += await asyncio.wait_for(reader.read(64), ANSWER_SECONDS)
                await asyncio.sleep(pause_seconds)
        elif length:
            body = await asyncio.wait_for(reader.readexactly(int(length[1])), ANSWER_SECONDS)
        if _CLOSE.search(head):
            await self.close()
        return Answer(status=int(head[9:12]), head=head, body=body)

    async def close(self, *, abort: bool = False) -> None:
        """Leave; with `abort`, without a farewell (RST)."""
        if self._streams is None:
            return
        _, writer = self._streams
        self._streams = None
        if abort:
            writer.transport.abort()
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        return self._streams
