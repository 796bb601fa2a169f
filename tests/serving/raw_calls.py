"""gRPC calls written by hand over HTTP/2 (RFC 9113), since a client of gRPC's own sends its message whole or not at all."""

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_PATIENCE_SECONDS = 30.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_INITIAL_WINDOW = 4
_DEFAULT_WINDOW = 65535
_FRAME_BYTES = 16384


@dataclass(kw_only=True)
class Call:
    """One call, whose message consists of zeros."""

    number: int
    message_bytes: int
    window: int
    num_sent: int = 0
    has_ended: bool = False
    """Whether the server has answered it."""


class RawCalls:
    """Calls over one connection, from an address of this machine's own."""

    def __init__(self, port: int, *, address: str = "127.0.0.1") -> None:
        self.calls: list[Call] = []
        self._window = _DEFAULT_WINDOW
        self._call_window = _DEFAULT_WINDOW
        self._received = b""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS, source_address=(address, 0))
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    @property
    def num_sent(self) -> int:
        """Bytes of all messages that the server has let through."""
        return sum(call.num_sent for call in self.calls)

    def open(self, path: str, message_bytes: int, *, timeout: str | None = None) -> Call:
        """Begin a call, which states its time as gRPC does (`20S`); nothing of its message is sent yet."""
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
        headers["content-type"] = "application/grpc"
        if timeout is not None:
            headers["grpc-timeout"] = timeout
        head = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
        call = Call(number=2 * len(self.calls) + 1, message_bytes=message_bytes, window=self._call_window)
        self.calls.append(call)
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, call.number, head))
        return call

    def send_until(self, is_enough: Callable[[], bool], *, keep_back: int = 0) -> None:
        """Send of each message what the server lets through, but for its last bytes, until it is enough."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_enough():
            assert time.monotonic() < deadline, self.calls
            self._send(keep_back)
            self._receive(0.1)

    def send_for(self, seconds: float, *, keep_back: int = 0) -> None:
        """The same for a while."""
        end = time.monotonic() + seconds
        self.send_until(lambda: time.monotonic() > end, keep_back=keep_back)

    def _send(self, keep_back: int) -> None:
        for call in self.calls:
            prefix = struct.pack(">BI", 0, call.message_bytes)
            all_bytes = len(prefix) + call.message_bytes
            while not call.has_ended:
                size = min(all_bytes - keep_back - call.num_sent, call.window, self._window, _FRAME_BYTES)
                if size <= 0:
                    break
                is_last = call.num_sent + size == all_bytes
                piece = prefix[call.num_sent : call.num_sent + size].ljust(size, b"\0")
                self._socket.sendall(_frame(_DATA, _END_STREAM if is_last else 0, call.number, piece))
                call.num_sent += size
                call.window -= size
                self._window -= size

    def _receive(self, seconds: float) -> None:
        if not select.select([self._socket], [], [], seconds)[0]:
            return
        piece = self._socket.recv(1 << 20)
        assert piece, "the server has closed the connection"
        self._received += piece
        while len(self._received) >= 9:
            size, kind, flags = int.from_bytes(self._received[:3]), self._received[3], self._received[4]
            if len(self._received) < 9 + size:
                return
            number = int.from_bytes(self._received[5:9]) & 0x7FFFFFFF
            content, self._received = self._received[9 : 9 + size], self._received[9 + size :]
            self._take(kind, flags, number, content)

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", content):
                if name == _INITIAL_WINDOW:
                    for call in self.calls:
                        call.window += value - self._call_window
                    self._call_window = value
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _WINDOW_UPDATE and number == 0:
            self._window += int.from_bytes(content)
        elif kind == _WINDOW_UPDATE:
            self.calls[number // 2].window += int.from_bytes(content)
        elif kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
            self.calls[number // 2].has_ended = True


def _frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + content


def _text(value: str) -> bytes:
    """As HPACK has it: not compressed."""
    return bytes([len(value)]) + value.encode()
