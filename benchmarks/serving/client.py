"""A client that costs little: ready-made requests over kept connections, one loop, no more of HTTP than answers need.

It shares two cores with the server that is measured: a request costs it some 30 microseconds.
"""

import re
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPResponse

_RECEIVE_BYTES = 1 << 18
_ANSWER_SECONDS = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_OK = b"200"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server did under load."""

    latencies: list[float]
    """Seconds from the first byte sent to the last one received, one an answer, in order."""
    seconds: float
    """From the first request that counts to the last answer."""
    num_answers: int
    """Of the warm-up too."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the answers did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(kw_only=True)
class _Connection:
    socket: socket.socket
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytearray = field(default_factory=bytearray)
    size: int | None = None
    """Bytes of the whole answer; None until its head is there, and for a chunked one."""
    started_at: float = 0.0
    events: int = select.EPOLLIN
    """What the poll waits for."""


def ask(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """Status and body of one answer, over a connection of its own."""
    with socket.create_connection(address, timeout=_ANSWER_SECONDS) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def send_load(address: tuple[str, int], requests: Sequence[bytes], *, num_clients: int, seconds: float, warm_up: float) -> Load:
    """Let `num_clients` each send one request after the other, in turn, for `seconds` after `warm_up` seconds that do not count.

    Raises:
        RuntimeError: an answer was not 200, or did not come within a minute.
    """
    poll = select.epoll()
    connections = {connection.socket.fileno(): connection for connection in (_connect(address) for _ in range(num_clients))}
    try:
        return _drive(poll, connections, requests, seconds, warm_up)
    finally:
        poll.close()
        for connection in connections.values():
            connection.socket.close()


def _connect(address: tuple[str, int]) -> _Connection:
    connected = socket.create_connection(address, timeout=_ANSWER_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setblocking(False)
    return _Connection(socket=connected)


def _drive(
    poll: select.epoll, connections: dict[int, _Connection], requests: Sequence[bytes], seconds: float, warm_up: float
) -> Load:
    latencies: list[float] = []
    clock = time.perf_counter
    counts_from = clock() + warm_up
    ends_at = counts_from + seconds
    num_sent = num_waiting = num_answers = 0
    last = counts_from
    for number, connection in connections.items():
        poll.register(number, select.EPOLLIN)
        _start(poll, connection, requests[num_sent % len(requests)])
        num_sent += 1
        num_waiting += 1
    while num_waiting:
        events = poll.poll(_ANSWER_SECONDS)
        if not events:
            raise RuntimeError(f"{num_waiting} requests had no answer after {_ANSWER_SECONDS:.0f} s.")
        for number, event in events:
            connection = connections[number]
            if event & select.EPOLLOUT:
                _send(poll, connection)
            if not event & ~select.EPOLLOUT or not _receive(connection):
                continue
            now = clock()
            if connection.started_at >= counts_from:
                latencies.append(now - connection.started_at)
                last = now
            num_waiting -= 1
            num_answers += 1
            if now < ends_at:
                _start(poll, connection, requests[num_sent % len(requests)])
                num_sent += 1
                num_waiting += 1
            else:
                poll.unregister(number)  # A server may close a connection that rests.
    if not latencies:
        raise RuntimeError(f"no answer came within {seconds:g} s.")
    return Load(latencies=latencies, seconds=last - counts_from, num_answers=num_answers)


def _start(poll: select.epoll, connection: _Connection, request: bytes) -> None:
    connection.received.clear()
    connection.size = None
    connection.unsent = memoryview(request)
    connection.started_at = time.perf_counter()
    _send(poll, connection)


def _send(poll: select.epoll, connection: _Connection) -> None:
    """As much as the connection takes now; the poll says when it takes more."""
    try:
        sent = connection.socket.send(connection.unsent)
    except BlockingIOError:
        sent = 0
    connection.unsent = connection.unsent[sent:]
    wanted = select.EPOLLIN | select.EPOLLOUT if connection.unsent else select.EPOLLIN
    if wanted != connection.events:
        poll.modify(connection.socket.fileno(), wanted)
        connection.events = wanted


def _receive(connection: _Connection) -> bool:
    """Whether the answer is complete."""
    try:
        piece = connection.socket.recv(_RECEIVE_BYTES)
    except BlockingIOError:
        return False
    if not piece:
        raise RuntimeError(f"the server closed a connection after {bytes(connection.received[:500])!r}.")
    received = connection.received
    received += piece
    if connection.size is None:
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(received[: end + 2])
        if head[9:12] != _OK:
            raise RuntimeError(f"the server answered {bytes(received[:500])!r}.")
        if length := _LENGTH.search(head):
            connection.size = end + 4 + int(length[1])
        elif not _CHUNKED.search(head):
            raise RuntimeError(f"an answer states no length: {head!r}.")
        else:
            return received.endswith(_LAST_CHUNK)
    return len(received) >= connection.size
