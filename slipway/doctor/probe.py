"""One bounded HTTP request, and why it got no answer, in words for people."""

import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from slipway.errors import SlipwayError

_MAX_BYTES = 1 << 20


class UnreachableError(SlipwayError):
    """Nothing answered HTTP there; the message is the cause, with what to change."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said."""

    status: int
    text: str
    """The body, at most 1 MiB of it."""
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """The body as a JSON object; {} where it is none."""
        try:
            content = json.loads(self.text)
        except json.JSONDecodeError:
            return {}
        return content if isinstance(content, dict) else {}


def probe(url: str, *, timeout_seconds: float, body: object = None) -> Answer:
    """GET `url`, or POST `body` as JSON to it: once, no redirects, no proxies, whatever status comes back.

    `timeout_seconds` bounds the connection and each read; the system's look-up of the name has its own bound.

    Raises:
        UnreachableError: no HTTP answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnreachableError(f"{url!r} is not an address; accepted: http://HOST[:PORT][/PATH] or https://...")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=timeout_seconds)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    start = time.monotonic()
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, body=json.dumps(body), headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read(_MAX_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(_explain(error, f"{parts.scheme}://{parts.netloc}", timeout_seconds)) from error
    finally:
        connection.close()
    return Answer(status=response.status, text=text, milliseconds=(time.monotonic() - start) * 1000)


def _explain(error: Exception, origin: str, timeout_seconds: float) -> str:
    match error:
        case socket.gaierror():
            cause = f"the host of {origin} is not known here ({error.strerror}). Correct the name, or forward the port."
        case ConnectionRefusedError():
            cause = f"nothing listens at {origin} (connection refused). Start the service, or correct host and port."
        case TimeoutError():
            cause = f"{origin} did not answer within {timeout_seconds:g} s. Check the address, the network and the service."
        case ssl.SSLCertVerificationError():
            remedy = "Set SSL_CERT_FILE to the certificate of its authority."
            cause = f"the TLS certificate of {origin} is not trusted ({error.verify_message}). {remedy}"
        case ssl.SSLError():
            cause = f"{origin} does not speak TLS ({error.reason}). Write http:// instead of https://."
        case http.client.HTTPException() | ConnectionResetError():
            cause = f"{origin} does not speak HTTP ({type(error).__name__}). Check the port; one with TLS needs https://."
        case _:
            cause = f"{origin} cannot be reached ({error})."
    return cause
