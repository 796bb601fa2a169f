"""Which pages of other origins may read the answers (CORS), refusals too. None, unless the options name some."""

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

from slipway.serving.http.messages import App, Headers, Receive, Scope, Send
from slipway.serving.http.request_id import request_id_of

_MAX_AGE_SECONDS = b"600"
_EXPOSED = b"x-request-id, x-model-version, inference-header-content-length, retry-after, server-timing, traceparent"


class Cors:
    """What browsers are told. It stands before all that can refuse a request: a page reads a refusal only where that says so."""

    def __init__(self, origins: tuple[str, ...], is_draining: Callable[[], bool]) -> None:
        """While `is_draining`, its answers end their connections, as all others do."""
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_draining = is_draining

    def wrap(self, app: App) -> App:
        """`app`, whose answers the named pages may read; itself where none is named."""
        return partial(self._answer, app) if self._origins else app

    def find_headers(self, asked: Mapping[bytes, bytes]) -> Headers:
        """Those of an answer to a request with the headers `asked`."""
        if not self._origins:
            return []
        headers = [] if self._any else [(b"vary", b"origin")]
        if self._may_read(asked):
            allowed = b"*" if self._any else asked[b"origin"]
            headers += [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", _EXPOSED)]
        return headers

    async def _answer(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"])
        headers = self.find_headers(asked)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in asked and self._may_read(asked):
            # asked by the browser itself, which shows no token: nothing else may refuse it, or the page hears of no refusal
            headers += [
                (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
                (b"access-control-allow-headers", asked.get(b"access-control-request-headers") or b"content-type"),
                (b"access-control-max-age", _MAX_AGE_SECONDS),
                (b"x-request-id", request_id_of(scope).encode()),
            ]
            if self._is_draining():
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_readable(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await app(scope, receive, send_readable)

    def _may_read(self, asked: Mapping[bytes, bytes]) -> bool:
        origin = asked.get(b"origin")
        return bool(origin) and (self._any or origin in self._origins)
