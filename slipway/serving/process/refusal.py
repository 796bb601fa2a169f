"""Answers that the application never sees asked for: to clients that may not ask, or not now. Health is always answered."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from slipway.serving.http.routes import find_route

App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_PROBES = ("live", "server_ready", "ready")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status with its sentence."""

    status: int
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """As JSON, in the form that all errors have."""
        return orjson.dumps({"error": self.sentence})

    def all_headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """With what every answer has. The connection ends with it: what is left of the request is not read."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
            (b"connection", b"close"),
        ]

    async def send(self, send: Any) -> None:
        """Answer an ASGI request with it."""
        body = self.body
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers(body)})
        await send({"type": "http.response.body", "body": body})


def is_probe(path: str) -> bool:
    """Whether a path is one of those that KServe and the kubelet ask whether the server lives and is ready."""
    route = find_route(path)
    return route is not None and route.operation in _PROBES


class OnlyProbes:
    """An application that answers probes as `app` does, and everything else with one refusal."""

    def __init__(self, app: App, refusal: Refusal, num_refused: Counter[int]) -> None:
        """`num_refused` counts, by status, what was refused."""
        self._app = app
        self._refusal = refusal
        self._num_refused = num_refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if is_probe(scope["path"]):
            await self._app(scope, receive, send)
        else:
            self._num_refused[self._refusal.status] += 1
            await self._refusal.send(send)
