"""What a client is told that gets no answer. Where it may not ask, or not now, the application never sees it ask."""

from collections import Counter
from dataclasses import dataclass

import orjson

from slipway.serving.http.messages import App, Headers, Receive, Scope, Send
from slipway.serving.http.routes import is_probe


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status with its sentence."""

    status: int
    """Of HTTP, over whatever protocol."""
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """As JSON, in the form that all errors have."""
        return orjson.dumps({"error": self.sentence})

    def all_headers(self, body: bytes) -> Headers:
        """With what every answer has. The connection ends with it: what is left of the request is not read."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
            (b"connection", b"close"),
        ]

    async def send(self, send: Send) -> None:
        """Answer an ASGI request with it."""
        body = self.body
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers(body)})
        await send({"type": "http.response.body", "body": body})


class OnlyProbes:
    """An application that answers probes, since health is always told, as `app` does, and everything else with one refusal."""

    def __init__(self, app: App, refusal: Refusal, num_refused: Counter[int]) -> None:
        """`num_refused` counts, by status, what was refused."""
        self._app = app
        self._refusal = refusal
        self._num_refused = num_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if is_probe(scope["path"]):
            await self._app(scope, receive, send)
        else:
            self._num_refused[self._refusal.status] += 1
            await self._refusal.send(send)
