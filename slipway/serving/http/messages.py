"""HTTP over ASGI: a request with its limits, and an answer. Nothing here knows of models."""

import re
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from slipway.errors import SlipwayError
from slipway.serving.http.request_id import request_id_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = "application/json"
# A request that says two different things in one of these is refused: whoever stands in between may have believed the other.
_SINGLE_HEADERS = frozenset(
    (
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
        b"x-request-id",
        b"x-timeout-seconds",
    )
)
_INTEGER = re.compile(rb"[0-9]{1,18}\Z")
_GZIP_WINDOW = 31
_MAX_QUERY_FIELDS = 20


class HttpError(SlipwayError):
    """A request that gets an answer with an error status."""

    def __init__(self, status: int, message: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Disconnected(Exception):  # noqa: N818  # nobody is told: there is nobody
    """The client went away before its request was there."""


@dataclass(slots=True, kw_only=True)
class Response:
    """An answer on its way out."""

    status: int = 200
    body: bytes = b""
    media_type: bytes = b"application/json"
    headers: Headers = field(default_factory=list)


def json_response(content: object, *, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(status=status, body=orjson.dumps(content))


class Request:
    """What came in: the head at once, the body when it is asked for."""

    __slots__ = ("_receive", "headers", "id", "method", "path", "query_string")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Raise HttpError (400) where a header that decides how the rest is read stands twice with different values."""
        self.id = request_id_of(scope)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope.get("query_string", b"")
        self._receive = receive
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if headers.setdefault(name, value) != value and name in _SINGLE_HEADERS:
                raise HttpError(400, f"The header {name.decode('latin-1')} stands twice with different values; accepted: once.")
        self.headers = headers

    def header(self, name: bytes) -> str:
        """A header's value; "" where it is not there."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    def count(self, name: bytes) -> int | None:
        """A header that is a number of bytes; None where it is not there."""
        value = self.headers.get(name)
        if value is None:
            return None
        if not _INTEGER.match(value):
            raise HttpError(400, f"The header {name.decode()} is {value[:60].decode('latin-1')!r}; accepted: a number of bytes.")
        return int(value)

    @property
    def media_type(self) -> str:
        """The body's type, without its parameters, in small letters."""
        return self.header(b"content-type").partition(";")[0].strip().lower()

    def query(self, accepted: tuple[str, ...]) -> dict[str, str]:
        """The fields after the question mark.

        Raises:
            HttpError: (400) one is not among `accepted`, or stands twice.
        """
        if not self.query_string:
            return {}
        try:
            pairs = parse_qsl(
                self.query_string.decode(), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS, errors="strict"
            )
        except (ValueError, UnicodeDecodeError):
            raise HttpError(400, "The query is not UTF-8, or has too many fields; accepted: NAME=VALUE pairs.") from None
        fields: dict[str, str] = {}
        for name, value in pairs:
            if name not in accepted or name in fields:
                told = "stands twice in the query" if name in fields else "is not known in the query"
                raise HttpError(400, f"{name[:60]!r} {told}; accepted: {', '.join(accepted)}.")
            fields[name] = value
        return fields

    @property
    def is_packed(self) -> bool:
        """Whether the body is gzip.

        Raises:
            HttpError: (415) it is packed in another way.
        """
        coding = self.header(b"content-encoding").lower()
        if coding not in ("", "identity", "gzip"):
            accepted = (b"accept-encoding", b"gzip")
            raise HttpError(415, f"Content-Encoding is {coding[:60]!r}; accepted: gzip, or none.", headers=(accepted,))
        return coding == "gzip"

    async def read_body(self, max_bytes: int) -> bytes:
        """The body as it came.

        Raises:
            HttpError: (413) it is larger than `max_bytes`.
            Disconnected: the client went away.
        """
        stated = self.count(b"content-length")
        if stated is not None and stated > max_bytes:
            raise _too_large(max_bytes)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return body
        chunks = bytearray(body)
        while message.get("more_body", False):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunks += message.get("body", b"")
            if len(chunks) > max_bytes:
                raise _too_large(max_bytes)
        return bytes(chunks)


def address_of(scope: Scope) -> str:
    """The address that a request's client connects from; "" where it has none."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else ""


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(413, f"The body is too large; accepted: at most {max_bytes} bytes, also when unpacked.")


def unpack_gzip(body: bytes, max_bytes: int) -> bytes:
    """What a packed body holds.

    Raises:
        HttpError: it is larger than `max_bytes` (413; no more than that is unpacked), or damaged (400).
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise HttpError(400, f"The body is not gzip, as Content-Encoding says ({error}).") from None
    if len(unpacked) > max_bytes:
        raise _too_large(max_bytes)
    if not stream.eof or stream.unused_data:
        told = "breaks off" if not stream.eof else "goes on after its end"
        raise HttpError(400, f"The body is gzip that {told}; accepted: one whole gzip member.")
    return unpacked
