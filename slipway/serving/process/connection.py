"""One client's connection: uvicorn's HTTP/1.1, with bounds on the time and the room that its client may take."""

import asyncio

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from slipway.serving.http.messages import Scope, address_of
from slipway.serving.http.refusal import OnlyProbes, Refusal
from slipway.serving.http.request_id import request_id_of
from slipway.serving.process.closing import ClosingConnection, Reading
from slipway.serving.process.heads import NO_METHOD, NOT_HTTP, begins_with_request_line, find_fault, to_origin_form
from slipway.serving.process.tls import describe_peer
from slipway.serving.process.watch import ConnectionWatch

_NUM_RESERVED = 16
"""Connections above the limit that are still taken, so that probes are answered; anything else gets 503 there."""
_MAX_IGNORED_BYTES = 1 << 20
"""Of a body that was answered before it was there: to that end it is read, so that the connection can be used again."""

_RETRY = ((b"retry-after", b"1"),)
_FULL = Refusal(503, "The server has as many connections as it takes; try again, here or at another replica.", _RETRY)
_OVERFULL = Refusal(503, "The server receives as many bytes as it takes at a time; try again.", _RETRY)


class _RefusedError(Exception):
    """Raised by what the parser calls; it stops parsing."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class BoundedConnection(ClosingConnection):
    """A connection that its client cannot hold for longer, or fill with more, than the limits say."""

    def __init__(self, config: Config, state: ServerState, watch: ConnectionWatch) -> None:
        super().__init__(config, state, watch.cors)
        self.parser = self._make_parser()
        self.since = self.loop.time()
        """When what it is at began: its rest, the request's head or its body."""
        self._watch = watch
        self._limits = watch.limits
        self._num_bytes = 0
        self._piece_bytes = 0
        self._num_ignored_bytes = 0
        self._asked = False

    @property
    def is_resting(self) -> bool:
        """Whether no request of it is on its way or being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return self._linger_until > 0 or (not answering and self._reading is not Reading.BODY)

    def check(self, now: float, pause: float) -> None:
        """Hold it to its time limits; `pause` is the time since the last look."""
        self._check_end(now, self._limits.answer_seconds)
        if self._linger_until:
            return
        if self.flow.read_paused:
            self.since += pause  # it is us who do not read
        elif self._reading is Reading.HEAD:
            if now - self.since > self._limits.head_seconds:
                self._refuse(Refusal(408, f"The request's head did not arrive within {self._limits.head_seconds:g} s."))
        elif self._reading is Reading.BODY:
            if now - self.since > self._limits.body_seconds + self._num_bytes / self._limits.min_body_rate:
                rate = self._limits.min_body_rate
                self._refuse(Refusal(408, f"The body stopped, or came with less than {rate} bytes a second. Send it again."))
        elif not self._asked and now - self.since > self._limits.head_seconds:
            self.cut()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.timeout_keep_alive = self._limits.keep_alive_seconds  # type: ignore[assignment]  # uvicorn counts in whole seconds
        self._extensions = describe_peer(transport)
        num_above = len(self.connections) - self._limits.max_connections
        if num_above > _NUM_RESERVED:
            self.cut()
        elif num_above > 0 and not self._watch.make_room(self):
            self.app = OnlyProbes(self.app, _FULL, self._watch.refusals)
        self.app = self._cors.wrap(self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._forget_body()
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
        if self._reading is Reading.HEAD:
            self._num_bytes += len(data)
        self._piece_bytes = len(data)
        before = self._reading, self.cycle
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError:
            begins_here = before == (Reading.NOTHING, self.cycle)
            self._refuse(NO_METHOD if begins_here and begins_with_request_line(data) else NOT_HTTP)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.refusal if isinstance(cause, _RefusedError) else NOT_HTTP)
        else:
            if self._reading is Reading.NOTHING:
                return None
            limits = self._limits
            endless = self._reading is Reading.HEAD and self._num_bytes > limits.max_head_bytes
            if endless or len(self.headers) > limits.max_headers:  # those after a body count too
                self._refuse(self._head_too_large)
        return None

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        super().on_message_begin()
        if self._extensions:
            self.scope["extensions"] = self._extensions
        self._unset_keepalive_if_required()
        self._reading = Reading.HEAD
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
        fault = find_fault(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        if fault is not None:
            raise _RefusedError(fault)
        self.url = to_origin_form(self.url)
        self.scope["headers"] = list(self.headers)  # trailers, which the parser adds to the others, are none of them
        super().on_headers_complete()
        self._reading = Reading.BODY
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
        self._reading = Reading.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer is written."""
        if self._reading is Reading.NOTHING:
            self.since = self.loop.time()
        super().on_response_complete()

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
        return self._reading is Reading.HEAD and self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request as if it asked for no other protocol: one that knows none is to answer in this one (RFC 9110)."""
        version = self.parser.get_http_version().encode()
        lines = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n", *lines, b"\r\n"]
        self.parser = self._make_parser()
        return b"".join([*head, rest])

    def _make_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_version=True)  # the first as uvicorn does
        return parser

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is being read with a refusal, and close; requests before it get their answers first."""
        scope: Scope = self.scope  # type: ignore[assignment]  # with as much of its head as is there
        request_id = request_id_of(scope)
        self._forget_body()
        if self._end_with(refusal, request_id):
            self._watch.refusals.observe(refusal.status, request_id=request_id, address=address_of(scope))

    def _forget_body(self) -> None:
        if self._reading is Reading.BODY:
            self._watch.receiving_bytes -= self._num_bytes
            self._num_bytes = 0
