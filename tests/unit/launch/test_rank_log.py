"""Following a log over a connection that breaks. A small server stands in for an API server that drops connections."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes import client

from slipway.cluster.client import Cluster
from slipway.cluster.pods import read_log_tail
from slipway.launch import rank_log as rank_log_module
from slipway.launch.rank_log import RankLog

LINES = [f"2026-11-21T05:36:1{number}.000000000Z line {number}\n" for number in range(6)]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked = 0


class Handler(BaseHTTPRequestHandler):
    """The log's first connection breaks in the middle of a line; the second begins a little earlier and runs to the end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.partition("?")[0].endswith("/log"):
            body = json.dumps({"kind": "Pod", "status": {"phase": "Succeeded"}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.server.asked == 1:
            self.chunk("".join(LINES[:3]) + LINES[3][:40])
            self.close_connection = True
            self.connection.shutdown(2)
            return
        for line in LINES[2:]:
            self.chunk(line[:20])
            self.chunk(line[20:])
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        core = client.CoreV1Api(api)
        yield Cluster(namespace="ns", core=core, batch=None, apps=None, coordination=None, custom=None)
    server.shutdown()
    thread.join()
    server.server_close()


def running(name: str) -> client.V1Pod:
    state = client.V1ContainerState(running=client.V1ContainerStateRunning())
    container = client.V1ContainerStatus(name="train", image="i", image_id="", ready=True, restart_count=0, state=state)
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name), status=client.V1PodStatus(phase="Running", container_statuses=[container])
    )


def test_every_line_is_shown_once_and_whole_though_the_connection_breaks(cluster, monkeypatch):
    monkeypatch.setattr(rank_log_module, "_AGAIN_SECONDS", 0.05)
    output = io.StringIO()
    with RankLog(cluster, "ns", "train", output=output) as log:
        log.follow(running("p"))
        log.follow(running("p"))
        for _ in range(200):
            if "line 5" in output.getvalue():
                break
            threading.Event().wait(0.05)
        log.drain(5)
    assert output.getvalue().splitlines() == [f"line {number}" for number in range(6)]


def test_the_end_of_a_log_that_breaks_off_is_done_without(cluster):
    """It goes into the message of a failure, which must not become one about the log."""
    assert read_log_tail(cluster, "ns", "p", "train") == ""
    assert read_log_tail(cluster, "ns", "p", "train").endswith("line 5")
