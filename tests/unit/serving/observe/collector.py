"""A collector of traces: a real server that takes OTLP over HTTP and keeps the spans."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


@dataclass
class Collector:
    """What has come so far."""

    url: str
    spans: list[Any] = field(default_factory=list)
    resources: list[Any] = field(default_factory=list)
    status: int = 200

    def find(self, name: str) -> Any:
        """The one span whose name begins so."""
        (found,) = [span for span in self.spans if span.name.startswith(name)]
        return found


@contextmanager
def run_collector() -> Iterator[Collector]:
    """A collector on a free port of the loopback address, which ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(body)
            if collector.status == 200:
                for group in request.resource_spans:
                    collector.resources.append(group.resource)
                    for scope in group.scope_spans:
                        collector.spans.extend(scope.spans)
            self.send_response(collector.status)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
