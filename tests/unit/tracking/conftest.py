"""A stand-in for an S3 endpoint: lists and hands out the objects it was given, and checks no signature."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

Objects = dict[str, bytes]


@pytest.fixture
def s3() -> Iterator[tuple[str, Objects]]:
    """Its URL, and the objects of its one bucket `models`, by key."""
    objects: Objects = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            key = unquote(url.path).removeprefix("/models").removeprefix("/")
            if key:
                self._answer(objects[key]) if key in objects else self._answer(_missing(key), 404)
            else:
                self._answer(_listing(objects, parse_qs(url.query)["prefix"][0]))

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Type", "application/xml")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", objects
        server.shutdown()
        thread.join()


def _listing(objects: Objects, prefix: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>0</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key, body in objects.items()
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><Name>models</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _missing(key: str) -> bytes:
    return f"<Error><Code>NoSuchKey</Code><Message>missing</Message><Resource>{escape(key)}</Resource></Error>".encode()
