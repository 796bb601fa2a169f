import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import perf_counter

import numpy as np
import pytest

from benchmarks.processes import processor_seconds, resident_bytes
from benchmarks.serving.client import Load, send_load
from benchmarks.serving.comparisons import compare_answers
from benchmarks.serving.contestants import Side, load_on, serve
from benchmarks.serving.mean_color import prepare_mean_color
from benchmarks.serving.payloads import jpeg_body, jpeg_upload, read_probabilities, v2_binary, v2_json
from benchmarks.serving.servers import HOST, Launch, run_server, slipway
from tests.bundles import write_image_bundle

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


class Echo(BaseHTTPRequestHandler):
    """Answers /chunked in chunks, /closed not at all, /refused with 503, anything else with the length of what it got."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/closed":
            self.close_connection = True
            return
        self.send_response(503 if self.path == "/refused" else 200)
        answer = str(len(body)).encode()
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(answer), answer))
            self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        pass


class EchoServer(ThreadingHTTPServer):
    """Clients that leave are no news."""

    def handle_error(self, *_arguments):
        pass


@contextmanager
def echo_server():
    server = EchoServer((HOST, 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(path, body):
    return f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("path", "size"), [("/", 10), ("/chunked", 10), ("/", 8_000_000)])
def test_every_client_gets_its_answers_one_after_the_other(path, size):
    with echo_server() as address:
        load = send_load(address, [post(path, b"x" * size)], num_clients=3, seconds=0.2, warm_up=0.0)
    assert len(load.latencies) >= 3
    assert load.rate == pytest.approx(len(load.latencies) / load.seconds)


def test_a_warm_up_is_not_counted():
    with echo_server() as address:
        begun = perf_counter()
        load = send_load(address, [post("/", b"x")], num_clients=1, seconds=0.1, warm_up=0.4)
        in_all = perf_counter() - begun
    assert load.seconds <= in_all - 0.4
    assert 0 < len(load.latencies) < load.num_answers


@pytest.mark.parametrize(("path", "message"), [("/refused", "503"), ("/closed", "closed a connection")])
def test_an_answer_that_is_none_ends_the_measurement(path, message):
    with echo_server() as address, pytest.raises(RuntimeError, match=message):
        send_load(address, [post(path, b"x")], num_clients=2, seconds=1.0, warm_up=0.0)


def test_a_percentile_is_a_latency_that_was_measured():
    load = Load(latencies=[float(number) for number in range(100, 0, -1)], seconds=1.0, num_answers=100)
    assert [load.percentile(percent) for percent in (50, 99, 100)] == [51.0, 100.0, 100.0]


@pytest.mark.parametrize("build", [jpeg_body, jpeg_upload("/predict", "file"), v2_json, v2_binary])
def test_a_request_states_the_length_of_its_body(build):
    head, _, body = build(PIXELS).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.splitlines()


def test_a_binary_tensor_follows_the_header_that_announces_it():
    head, _, body = v2_binary(PIXELS).partition(b"\r\n\r\n")
    size = int(next(line for line in head.splitlines() if line.startswith(b"Inference-Header")).split()[1])
    tensor = json.loads(body[:size])["inputs"][0]
    assert tensor == {"name": "image", "shape": [1, 4, 5, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 60}}
    assert body[size:] == PIXELS.tobytes()


def test_probabilities_are_found_wherever_a_server_puts_them():
    row = [0.25, 0.75]
    for answer in (row, [row], {"probabilities": row}, {"outputs": [{"shape": [1, 2], "data": row}]}):
        assert read_probabilities(json.dumps(answer).encode(), 2) == row
    with pytest.raises(ValueError, match="no 3 probabilities"):
        read_probabilities(json.dumps([row]).encode(), 3)


def test_what_a_process_takes_includes_what_its_children_take():
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert processor_seconds(process.pid) >= 0.25
        assert resident_bytes(process.pid) > 2 * 4_000_000
        process.stdin.write(b"\n")
        process.stdin.close()


def test_a_server_that_ends_is_named_with_the_end_of_its_log(tmp_path):
    launch = Launch(name="broken", command=[sys.executable, "-c", "raise SystemExit('no such model')"], port=1)
    with pytest.raises(RuntimeError, match=r"broken did not answer(?s:.*)no such model"), run_server(launch, tmp_path, b""):
        pass


def test_a_load_on_the_predictor_is_measured_and_another_network_is_noticed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    network = prepare_mean_color(32, tmp_path / "a")
    other = replace(network, bundle_dir=tmp_path / "other")
    write_image_bundle(other.bundle_dir, seed=3)
    side = Side(start=partial(slipway, precision="fp32"), payload=v2_binary)
    with ExitStack() as stack:
        ours = stack.enter_context(serve(side, network, tmp_path / "a"))
        theirs = stack.enter_context(serve(side, other, tmp_path / "b"))
        assert compare_answers(ours, ours, network) == 1.0
        with pytest.raises(RuntimeError, match="do not serve the same network"):
            compare_answers(ours, theirs, network)
        player = stack.enter_context(load_on(*ours, tmp_path, num_clients=2))
        facts = player.take_turn().facts
    assert facts["images"] > 0
    assert facts["p50"] <= facts["p90"] <= facts["p99"]
