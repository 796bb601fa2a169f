"""The heads of requests by RFC 9112, where the parser is content with less."""

import re

import httptools

from slipway.serving.http.messages import Headers
from slipway.serving.http.refusal import Refusal

NOT_HTTP = Refusal(400, "This is no valid HTTP/1.1 request; accepted: HTTP/1.1 as in RFC 9112.")
NO_METHOD = Refusal(
    405, "The method is known nowhere here; accepted: GET, HEAD, POST, OPTIONS.", ((b"allow", b"GET, HEAD, POST, OPTIONS"),)
)
_NO_HOST = Refusal(400, "This is no valid HTTP/1.1 request: the header Host is missing, or stands twice; accepted: once.")
_WRONG_HOST = Refusal(400, "This is no valid HTTP/1.1 request: the header Host holds no host; accepted: HOST, or HOST:PORT.")
_OTHER_CODING = Refusal(501, "Transfer-Encoding is not one that is known here; accepted: chunked.")
_REQUEST_LINE = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[0-9]\r?\n")
_HOST = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+,;=%-]*|\[[0-9A-Za-z:._~%-]+\])(?::[0-9]*)?\Z")


def begins_with_request_line(data: bytes) -> bool:
    """Whether a request begins there, whatever its method is."""
    return _REQUEST_LINE.match(data) is not None


def find_fault(method: bytes, version: str, headers: Headers) -> Refusal | None:
    """Why a request with a head that the parser took is refused; None for most (RFC 9112, sections 2.3, 3.2, 6.1)."""
    if method == b"CONNECT":  # what is behind it is no request to the parser
        return NO_METHOD
    if not version.startswith("1."):
        return NOT_HTTP
    hosts = [value.strip() for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        return _NO_HOST
    if hosts and not _HOST.match(hosts[0]):
        return _WRONG_HOST
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    return _OTHER_CODING if codings not in ([], [b"chunked"]) else None


def to_origin_form(target: bytes) -> bytes:
    """Path and query of a request's target, which is in the absolute form where it goes to a proxy."""
    if target.startswith((b"/", b"*")):
        return target
    parsed = httptools.parse_url(target)
    return (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
