"""One client's connection: uvicorn's HTTP/1.1, with bounds on the time and the room that its client may take.

A time limit is an attribute that `ConnectionWatch` compares with the clock a few times a second: a request costs no timer.
"""

import asyncio
from collections import Counter
from enum import Enum
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from slipway.serving.process.options import ClientLimits
from slipway.serving.process.refusal import OnlyProbes, Refusal
from slipway.serving.process.tls import describe_peer

NUM_RESERVED = 16
"""Connections above the limit that are still taken, so that probes are answered; anything else gets 503 there."""
_LINGER_SECONDS = 2.0
_MAX_IGNORED_BYTES = 1 << 20
"""Of a body that was answered before it was there: to that end it is read, so that the connection can be used again."""
_MOST_BYTES_JOINED = 1 << 16
_ANSWER_START, _GO_ON = b"HTTP/1.1 ", b"HTTP/1.1 100 "
_MOST_SECONDS_BETWEEN_LOOKS = 0.5
_LOOKS_PER_LIMIT = 4

_RETRY = ((b"retry-after", b"1"),)
_NOT_HTTP = Refusal(400, "This is no valid HTTP/1.1 request; accepted: HTTP/1.1 as in RFC 9112.")
_FULL = Refusal(503, "The server has as many connections as it takes; try again, here or at another replica.", _RETRY)
_OVERFULL = Refusal(503, "The server receives as many bytes as it takes at a time; try again.", _RETRY)


class _Reading(Enum):
    NOTHING = 0
    HEAD = 1
    BODY = 2


class _RefusedError(Exception):
    """Raised by what the parser calls; it stops parsing."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class ConnectionWatch:
    """Holds a server's clients to their limits."""

    def __init__(self, limits: ClientLimits, state: ServerState) -> None:
        self.limits = limits
        self.receiving_bytes = 0
        """Of bodies that have begun and are not complete, on all connections."""
        self.num_refused: Counter[int] = Counter()
        """Requests that were refused here, by status: the application never saw them, or saw their client go away."""
        self._state = state

    async def run(self) -> None:
        """Look at all connections until cancelled."""
        limits = self.limits
        shortest = min(limits.head_seconds, limits.body_seconds, limits.answer_seconds)
        pause = min(shortest / _LOOKS_PER_LIMIT, _MOST_SECONDS_BETWEEN_LOOKS)
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(pause)
            for connection in self._list_connections():
                connection.check(now(), pause)

    def make_room(self, newcomer: "BoundedConnection") -> bool:
        """Cut the connection that has rested longest, other than the newcomer; False where each one has a request."""
        resting = [one for one in self._list_connections() if one.is_resting and one is not newcomer]
        if resting:
            min(resting, key=lambda one: one.since).cut()
        return bool(resting)

    def cut_all(self) -> None:
        """End every connection, whatever it is at."""
        for connection in self._list_connections():
            connection.cut()

    def _list_connections(self) -> "list[BoundedConnection]":
        return [one for one in self._state.connections if isinstance(one, BoundedConnection)]


class BoundedConnection(HttpToolsProtocol):
    """A connection that its client cannot hold for longer, or fill with more, than the limits say."""

    def __init__(self, config: Config, state: ServerState, watch: ConnectionWatch) -> None:
        super().__init__(config, state, {})
        self.since = self.loop.time()
        """When what it is at began: its rest, the request's head or its body."""
        self._watch = watch
        self._limits = watch.limits
        self._raw: asyncio.Transport
        self._running: RequestResponseCycle | None = None
        self._reading = _Reading.NOTHING
        self._num_bytes = 0
        self._piece_bytes = 0
        self._num_ignored_bytes = 0
        self._asked = False
        self._deaf = False
        """What else comes is thrown away: it cannot be answered, or will not be."""
        self._linger_until = 0.0
        self._unsent_bytes = 0
        self._unsent_since = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether no request of it is on its way or being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return self._linger_until > 0 or (not answering and self._reading is not _Reading.BODY)

    def cut(self) -> None:
        """End it at once."""
        self.connections.discard(self)
        self._leave_running()
        self._raw.abort()

    def check(self, now: float, pause: float) -> None:
        """Hold it to its time limits; `pause` is the time since the last look."""
        self._check_unsent(now)
        if self._linger_until:
            if now >= self._linger_until and not self._unsent_bytes:
                self.cut()
        elif self.flow.read_paused:
            self.since += pause  # it is us who do not read
        elif self._reading is _Reading.HEAD:
            if now - self.since > self._limits.head_seconds:
                self._refuse(Refusal(408, f"The request's head did not arrive within {self._limits.head_seconds:g} s."))
        elif self._reading is _Reading.BODY:
            if now - self.since > self._limits.body_seconds + self._num_bytes / self._limits.min_body_rate:
                rate = self._limits.min_body_rate
                self._refuse(Refusal(408, f"The body stopped, or came with less than {rate} bytes a second. Send it again."))
        elif not self._asked and now - self.since > self._limits.head_seconds:
            self.cut()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._raw = transport
        self.timeout_keep_alive = self._limits.keep_alive_seconds  # type: ignore[assignment]  # uvicorn counts in whole seconds
        self._extensions = describe_peer(transport)
        self.transport = _PoliteTransport(transport, self._close, self._is_closing)  # type: ignore[assignment]
        num_above = len(self.connections) - self._limits.max_connections
        if num_above > NUM_RESERVED:
            self.cut()
        elif num_above > 0 and not self._watch.make_room(self):
            self.app = OnlyProbes(self.app, _FULL, self._watch.num_refused)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._forget_body()
        self._leave_running()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        rest: bytes | None = data
        while rest is not None:
            rest = self._read(rest)

    def _read(self, data: bytes) -> bytes | None:
        """What is to be read next, where a request asked for another protocol; else None."""
        if self._deaf:
            return None
        if self._reading is _Reading.HEAD:
            self._num_bytes += len(data)
        self._piece_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.refusal if isinstance(cause, _RefusedError) else _NOT_HTTP)
        else:
            if self._reading is _Reading.NOTHING:
                return None
            limits = self._limits
            endless = self._reading is _Reading.HEAD and self._num_bytes > limits.max_head_bytes
            if endless or len(self.headers) > limits.max_headers:  # those after a body count too
                self._refuse(self._head_too_large)
        return None

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        super().on_message_begin()
        if self._extensions:
            self.scope["extensions"] = self._extensions
        self._unset_keepalive_if_required()
        self._reading = _Reading.HEAD
        self._num_bytes = 0
        self._asked = True
        self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of the head."""
        if self._asks_for_upgrade:
            return
        limits = self._limits
        if len(self.headers) > limits.max_headers:
            raise _RefusedError(self._head_too_large)
        may_be_large = self._num_bytes + self._piece_bytes > limits.max_head_bytes  # or a body came with it
        if may_be_large and self._head_bytes > limits.max_head_bytes:
            raise _RefusedError(self._head_too_large)
        super().on_headers_complete()
        self._reading = _Reading.BODY
        self._num_bytes = self._num_ignored_bytes = 0
        self.since = self.loop.time()

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the body."""
        if self.cycle.response_complete:
            self._num_ignored_bytes += len(body)
            if self._num_ignored_bytes > _MAX_IGNORED_BYTES:
                self._close()
            return
        self._num_bytes += len(body)
        self._watch.receiving_bytes += len(body)
        if self._watch.receiving_bytes > self._limits.max_receiving_bytes:
            raise _RefusedError(_OVERFULL)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser at a request's end."""
        if self._asks_for_upgrade:
            return
        if len(self.headers) > self._limits.max_headers:
            raise _RefusedError(self._head_too_large)
        self._forget_body()
        self._reading = _Reading.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer is written."""
        self.transport.flush()  # type: ignore[attr-defined]
        if self._reading is _Reading.NOTHING:
            self.since = self.loop.time()
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

    def _check_unsent(self, now: float) -> None:
        unsent = self._raw.get_write_buffer_size()
        if not unsent or unsent != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._limits.answer_seconds:
            self.cut()

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    @property
    def _head_too_large(self) -> Refusal:
        limits = self._limits
        accepted = f"at most {limits.max_head_bytes} bytes in {limits.max_headers} headers"
        return Refusal(431, f"The request's head is too large; accepted: {accepted}.")

    @property
    def _asks_for_upgrade(self) -> bool:
        """Whether the request would rather go on in another protocol; the parser then takes its body for that."""
        return self._reading is _Reading.HEAD and self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request as if it asked for no other protocol: one that knows none is to answer in this one (RFC 9110)."""
        version = self.parser.get_http_version().encode()
        lines = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n", *lines, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"".join([*head, rest])

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is being read with a refusal, and close; requests before it get their answers first."""
        cycle, reading = self.cycle, self._reading
        self._watch.num_refused[refusal.status] += 1
        self._forget_body()
        if cycle is None or cycle.response_complete:
            self._write(refusal)
        elif reading is not _Reading.BODY:
            self._end_after_answers()
            return
        elif self.pipeline:  # its answer would come before those to earlier requests
            self.cut()
            return
        elif not cycle.response_started:
            self._write(refusal)
        self._deaf = True
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._close()

    def _end_after_answers(self) -> None:
        """Answer what was asked so far, and close."""
        self._deaf = True
        if self.cycle is None or self.cycle.response_complete:
            self._close()
        else:
            self.cycle.keep_alive = False

    def _write(self, refusal: Refusal) -> None:
        body = refusal.body
        headers = [*self.server_state.default_headers, *refusal.all_headers(body)]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self._raw.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))

    def _close(self) -> None:
        """End it once all is sent. A client that still sends is listened to for a moment, or it would not get to read."""
        if self._is_closing():
            return
        if self._reading is _Reading.NOTHING and not self._deaf:
            self._raw.close()
            return
        self._deaf = True
        self._linger_until = self.loop.time() + _LINGER_SECONDS
        if self._raw.can_write_eof():
            self._raw.write_eof()
        self.flow.resume_reading()

    def _is_closing(self) -> bool:
        return self._linger_until > 0 or self._raw.is_closing()

    def _forget_body(self) -> None:
        if self._reading is _Reading.BODY:
            self._watch.receiving_bytes -= self._num_bytes
            self._num_bytes = 0


class _PoliteTransport:
    """A transport whose `close` is the connection's own, and which sends an answer's head together with its body.

    An application says both in one go: the head waits for the body or for the answer's end, whichever is first.
    """

    __slots__ = ("_close", "_head", "_write", "abort", "get_extra_info", "is_closing")

    def __init__(self, transport: asyncio.Transport, close: Any, is_closing: Any) -> None:
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
