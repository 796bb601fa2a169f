"""What a client is told that gets no answer. Where it may not ask, or not now, the application never sees it ask."""

from dataclasses import dataclass

import orjson

from slipway.serving.http.messages import App, Headers, Receive, Scope, Send, address_of
from slipway.serving.http.request_id import request_id_of
from slipway.serving.http.routes import is_probe
from slipway.serving.observe.refusals import Refusals


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

    def all_headers(self, body: bytes, request_id: str) -> Headers:
        """With what every answer has. The connection ends with it: what is left of the request is not read."""
        return [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]

    async def answer(self, scope: Scope, send: Send, refusals: Refusals) -> None:
        """Answer an ASGI request with it, and say so to `refusals`."""
        request_id, body = request_id_of(scope), self.body
        refusals.observe(self.status, request_id=request_id, address=address_of(scope))
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers(body, request_id)})
        await send({"type": "http.response.body", "body": body})


class OnlyProbes:
    """An application that answers probes, since health is always told, as `app` does, and everything else with one refusal."""

    def __init__(self, app: App, refusal: Refusal, refusals: Refusals) -> None:
        self._app = app
        self._refusal = refusal
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if is_probe(scope["path"]):
            await self._app(scope, receive, send)
        else:
            await self._refusal.answer(scope, send, self._refusals)
