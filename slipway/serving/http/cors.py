"""Which pages of other origins may read the answers (CORS). None, unless the options name some."""

from slipway.serving.http.messages import Response, Scope

_MAX_AGE_SECONDS = b"600"
_EXPOSED = b"x-request-id, x-model-version, inference-header-content-length, retry-after, server-timing"


class Cors:
    """The headers that a browser asks for."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = {origin.encode() for origin in origins}

    def add_headers(self, scope: Scope, response: Response) -> None:
        """Let the page that asks read the answer, if its origin is among those that may."""
        if not self._origins:
            return
        headers = dict(scope["headers"])
        origin: bytes = headers.get(b"origin", b"")
        if not self._any:
            response.headers.append((b"vary", b"origin"))
        if not origin or not (self._any or origin in self._origins):
            return
        response.headers += [
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            wanted: bytes = headers.get(b"access-control-request-headers", b"")
            response.headers += [
                (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
                (b"access-control-allow-headers", wanted or b"content-type"),
                (b"access-control-max-age", _MAX_AGE_SECONDS),
            ]
