import concurrent.futures
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image

from slipway.errors import RequestError, ServerError
from slipway.export.bundle import read_bundle
from slipway.serving.client import predict_image, request_json
from slipway.serving.record import write_pointer
from slipway.serving.wire.v2 import write_request
from tests.bundles import served_record
from tests.unit.serving.observe.exchanges import wait_for

WAIT_SECONDS = 20


@pytest.fixture(scope="module")
def bundle(write_image_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("colors") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


@pytest.fixture(scope="module")
def predictor(run_predictor, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    with run_predictor(folder, "--bundle", str(bundle.root), "--name", "colors", "--version", "7") as running:
        yield running


@pytest.fixture(scope="module")
def client(predictor):
    with httpx.Client(base_url=predictor.url) as client:
        yield client


def test_the_golden_examples_are_answered_over_http(client, bundle):
    for example in bundle.golden:
        answer = client.post("/v2/models/colors/versions/7/infer", content=write_request(example.inputs, bundle.info.signature))
        assert answer.status_code == 200
        content = answer.json()
        assert (content["model_name"], content["model_version"]) == ("colors", "7")
        (output,) = content["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 3])
        np.testing.assert_array_equal(np.array(output["data"], np.float32), example.outputs["probabilities"].ravel())


def test_health_and_metadata_follow_the_open_inference_protocol(client, bundle):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "slipway"
    assert client.get("/v2/models/colors/ready").json() == {"name": "colors", "ready": True}
    assert client.get("/v2/models/colors/versions/7/ready").status_code == 200
    metadata = client.get("/v2/models/colors").json()
    assert metadata["versions"] == ["7"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert metadata["parameters"]["class_names"] == ["dark", "bright", "red"]
    assert metadata["parameters"]["bundle_id"] == bundle.info.bundle_id


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "told"),
    [
        ("GET", "/v2/models/nope", {}, 404, "'nope' is not served here; accepted: colors"),
        ("GET", "/v2/models/colors/versions/8", {}, 404, "'8' of colors is not served here; accepted: 7"),
        ("POST", "/v2/models/nope/infer", {"content": b"{}"}, 404, "'nope'"),
        ("GET", "/v3/models", {}, 404, "nothing at '/v3/models'"),
        ("GET", "/v2/models/colors/infer", {}, 405, "accepted: POST, OPTIONS"),
        ("POST", "/v2/models/colors/infer", {"content": b"\xff\x00"}, 400, "not JSON"),
        ("POST", "/v2/models/colors/infer", {}, 400, "not JSON"),
        ("POST", "/v2/models/colors/infer", {"json": {"inputs": []}}, 400, "lacks image"),
        ("POST", "/v2/models/colors/infer", {"content": b"GIF89a", "headers": {"content-type": "image/gif"}}, 415, "image/png"),
        ("POST", "/v2/models/colors/infer", {"files": {"image": b"x"}}, 400, "not a JPEG, PNG or WebP image"),
        (
            "POST",
            "/v2/models/colors/infer",
            {"content": b"x", "headers": {"content-type": "application/xml"}},
            415,
            "application/json",
        ),
        (
            "POST",
            "/v2/models/colors/infer",
            {"content": b"x", "headers": {"content-type": "image/png"}},
            400,
            "not a JPEG, PNG or WebP image",
        ),
        ("POST", "/v2/models/colors/infer", {"content": b" " * (33 * 2**20)}, 413, "at most 33554432 bytes"),
    ],
)
def test_a_bad_request_gets_an_answer_that_says_why(client, method, path, options, status, told):
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_a_body_that_does_not_tell_its_size_is_limited_too(client):
    answer = client.post("/v2/models/colors/infer", content=(b" " * 2**20 for _ in range(40)))
    assert answer.status_code == 413


def test_an_image_file_is_answered_like_its_pixels(predictor, client, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (answer,) = predict_image(predictor.url, "colors", tmp_path / "photo.png")
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 6, 4, 3], "data": pixels.tolist()}
    direct = client.post("/v2/models/colors/infer", json={"inputs": [{**tensor, "data": [pixels.tolist()]}]}).json()["outputs"][0]
    assert list(answer.probabilities.values()) == pytest.approx(direct["data"])
    assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(RequestError, match=r"notes.png is not an image"):
        predict_image(predictor.url, "colors", tmp_path / "notes.png")
    with pytest.raises(RequestError, match="'shades' is not served here; accepted: colors"):
        predict_image(predictor.url, "shades", tmp_path / "photo.png")


def test_no_predictor_at_the_address_is_said(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ServerError, match="slipway serve"):
            request_json(f"{address}/v2")
    with pytest.raises(RequestError, match="accepted: http://"):
        request_json("file:///etc/hostname")


def refuses(port: int) -> bool:
    """Whether nobody is let in there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionError:
        return True
    return False


def test_a_request_that_has_begun_is_answered_when_the_server_is_told_to_end(run_predictor, bundle, tmp_path):
    body = write_request(bundle.golden[0].inputs, bundle.info.signature)
    head = f"POST /v2/models/colors/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    with run_predictor(tmp_path, "--bundle", str(bundle.root), "--name", "colors") as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head.encode())
            assert b"100 Continue" in connection.recv(1000)
            running.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(port))
            connection.sendall(body)
            answer = connection.recv(4000)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(b"}")  # head and body are sent in one
        assert running.process.wait(20) == 0


def test_a_draining_server_is_not_ready_answers_on_and_lets_its_connections_go(run_predictor, bundle, tmp_path):
    body = write_request(bundle.golden[0].inputs, bundle.info.signature)
    options = ("--bundle", str(bundle.root), "--name", "colors", "--drain-seconds", "2")
    with run_predictor(tmp_path, *options) as running, httpx.Client(base_url=running.url) as client:
        assert [client.get(path).status_code for path in ("/v2/health/ready", "/v2/models/colors/ready")] == [200, 200]
        assert "connection" not in client.post("/v2/models/colors/infer", content=body).headers
        begun = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/v2/health/ready").status_code == 503)
        ready = [
            client.get(path) for path in ("/v2/health/ready", "/v2/models/colors/ready", "/v2/models/colors/versions/1/ready")
        ]
        assert [(answer.status_code, answer.json()["ready"]) for answer in ready] == [(503, False)] * 3
        assert client.get("/v2/health/live").status_code == 200
        with pytest.raises(httpx.TransportError):  # noqa: PT012 - it answers until it lets nobody in any more
            while time.monotonic() - begun < WAIT_SECONDS:
                answer = client.post("/v2/models/colors/infer", content=body)
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert time.monotonic() - begun > 1.9
        assert running.process.wait(WAIT_SECONDS) == 0


def test_a_second_signal_ends_the_draining(run_predictor, bundle, tmp_path):
    options = ("--bundle", str(bundle.root), "--name", "colors", "--drain-seconds", "600")
    with run_predictor(tmp_path, *options) as running:
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{running.url}/v2/health/ready").status_code == 503)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_SECONDS) == 0


def test_the_version_comes_from_the_environment_where_the_command_line_names_none(run_predictor, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_MODEL_VERSION", "12")
    for number, (options, version) in enumerate([((), "12"), (("--version", "3"), "3")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with run_predictor(folder, "--bundle", str(bundle.root), "--name", "colors", *options) as running:
            assert request_json(f"{running.url}/v2/models/colors/versions/{version}/ready")["ready"]


def test_the_server_ends_with_the_process_that_started_it(run_predictor, bundle, tmp_path):
    with run_predictor(tmp_path, "--bundle", str(bundle.root), "--name", "colors", "--until-stdin-closes") as running:
        running.process.stdin.close()
        assert running.process.wait(WAIT_SECONDS) == 0


def test_an_altered_bundle_is_not_served(write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "bundle")
    with (tmp_path / "bundle" / "model.onnx").open("ab") as stream:
        stream.write(b"0")
    command = [sys.executable, "-m", "slipway.serving", "--bundle", str(tmp_path / "bundle"), "--name", "colors", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "model.onnx was altered" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_said(predictor, bundle):
    port = predictor.url.rpartition(":")[2]
    command = [sys.executable, "-m", "slipway.serving", "--bundle", str(bundle.root), "--name", "colors", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, f"Cannot listen on 127.0.0.1, port {port}" in ended.stderr) == (1, True)


def test_a_new_version_takes_over_without_a_dropped_request(run_predictor, write_image_bundle, tmp_path):
    for seed in (1, 2):
        write_image_bundle(tmp_path / f"v{seed}", seed=seed)
    example = read_bundle(tmp_path / "v1").golden[0]
    body = write_request(example.inputs, read_bundle(tmp_path / "v1").info.signature)
    pointer = tmp_path / "current.json"
    write_pointer(pointer, served_record(tmp_path / "v1", "1", model_name="colors"))
    versions: list[list[str]] = [[], []]
    stopped = threading.Event()

    with run_predictor(tmp_path, "--pointer", str(pointer)) as running:

        def ask_on(seen: list[str]) -> None:
            while not stopped.is_set():
                seen.append(request_json(f"{running.url}/v2/models/colors/infer", body)["model_version"])

        def count_refused() -> int:
            return (tmp_path / "log").read_text().count("still_serving")

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask_on, seen) for seen in versions]
            try:
                broken = served_record(tmp_path / "v2", "9", model_name="colors")
                write_pointer(pointer, replace(broken, bundle_uri=str(tmp_path / "nowhere")))
                wait_for(lambda: count_refused() >= 1)
                pointer.write_bytes(b"\xff\xfe no UTF-8")
                wait_for(lambda: count_refused() >= 2)
                wait_for(lambda: all(versions))
                write_pointer(pointer, served_record(tmp_path / "v2", "2", model_name="colors"))
                wait_for(lambda: all("2" in seen for seen in versions))
            finally:
                stopped.set()
            for future in asking:
                future.result()
        for seen in versions:
            assert set(seen) == {"1", "2"}
            assert seen == sorted(seen), "no answer comes from the version before, once one came from the new"
