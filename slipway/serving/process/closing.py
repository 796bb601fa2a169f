"""How a connection ends: with a refusal in an answer's place, once all is sent, or at once."""

import asyncio
from enum import Enum
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from slipway.serving.http.cors import Cors
from slipway.serving.http.refusal import Refusal
from slipway.serving.process.flow import OrderlyFlow
from slipway.serving.process.transport import PoliteTransport

_LINGER_SECONDS = 2.0


class Reading(Enum):
    """How far a request has come."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class ClosingConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 on a connection that can end wherever it is: before a request, within one, or within its answer."""

    def __init__(self, config: Config, state: ServerState, cors: Cors) -> None:
        super().__init__(config, state, {})
        self._cors = cors
        self._raw: asyncio.Transport
        self._running: RequestResponseCycle | None = None
        self._reading = Reading.NOTHING
        self._deaf = False
        """What else comes is thrown away: it cannot be answered, or will not be."""
        self._linger_until = 0.0
        self._unsent_bytes = 0
        self._unsent_since = 0.0

    def cut(self) -> None:
        """End it at once."""
        self.connections.discard(self)
        self._leave_running()
        self._raw.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.flow = OrderlyFlow(transport, self.pipeline)
        self._raw = transport
        self.transport = PoliteTransport(transport, self._close, self._is_closing)  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._leave_running()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Called when an answer is written."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _leave_running(self) -> None:
        """Let what is being answered know that nobody listens: with requests sent at once uvicorn tells the last one alone."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _check_end(self, now: float, answer_seconds: float) -> None:
        """Cut it where its client has had its time: to take a piece of an answer, or to read what it was told in the end."""
        unsent = self._raw.get_write_buffer_size()
        if not unsent or unsent != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent, now
        elif now - self._unsent_since > answer_seconds:
            self.cut()
        if self._linger_until and now >= self._linger_until and not self._unsent_bytes:
            self.cut()

    def _end_with(self, refusal: Refusal, request_id: str) -> bool:
        """Answer what is being read with a refusal, and close; requests before it get their answers first.

        Whether its client is told: not behind an answer that it has, or is yet to get.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            is_told = self._reading is not Reading.BODY  # else it has its answer, which did not wait for the body
        elif self._reading is not Reading.BODY:  # all of what was asked is there, and closes the connection once it is answered
            self._deaf = True
            cycle.keep_alive = False
            return False
        elif self.pipeline:  # its answer would come before those to earlier requests
            self.cut()
            return False
        else:
            is_told = not cycle.response_started
        if is_told:
            self._write(refusal, request_id)
        self._deaf = True
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._close()
        return is_told

    def _write(self, refusal: Refusal, request_id: str) -> None:
        body = refusal.body
        readable = self._cors.find_headers(dict(self.headers or ()))
        headers = [*self.server_state.default_headers, *refusal.all_headers(body, request_id), *readable]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self._raw.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))

    def _close(self) -> None:
        """End it once all is sent. A client that still sends is listened to for a moment, or it would not get to read."""
        if self._is_closing():
            return
        if self._reading is Reading.NOTHING and not self._deaf and not self.flow.read_paused:
            self._raw.close()
            return
        self._deaf = True
        self.pipeline.clear()  # nothing of it is answered any more
        self._linger_until = self.loop.time() + _LINGER_SECONDS
        if self._raw.can_write_eof():
            self._raw.write_eof()
        self.flow.resume_reading()

    def _is_closing(self) -> bool:
        return self._linger_until > 0 or self._raw.is_closing()
