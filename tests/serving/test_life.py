"""From the first byte of a bundle to the exit status: what is checked before it serves, how versions change, how it ends."""

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

import slipway
from slipway.export.bundle import INFO_NAME
from slipway.serving.record import write_pointer
from slipway.settings import child_environment
from slipway.storage.objects import ObjectStorage
from tests.bundles import endless_model, served_record, write_image_bundle
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import Predictor

INFER = "POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\n"
PATIENCE_SECONDS = 30


def make_body(num_images: int = 1, side: int = 4) -> bytes:
    pixels = np.full((num_images, side, side, 3), 2, np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def connect(predictor: Predictor) -> socket.socket:
    return socket.create_connection(("127.0.0.1", predictor.port), timeout=PATIENCE_SECONDS)


def wait_until_draining(predictor: Predictor) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while httpx.get(f"{predictor.url}/v2/health/ready").status_code != 503:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_to_its_end(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slipway.serving", "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def assert_one_line(ended: subprocess.CompletedProcess[str], status: int, *told: str) -> None:
    assert (ended.returncode, ended.stderr.count("\n")) == (status, 1), ended.stderr
    assert ended.stderr.startswith("error: ")
    for part in told:
        assert part in ended.stderr


def test_sigterm_lets_the_readiness_fail_answers_what_comes_and_ends_with_0(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--drain-seconds", "1.5")
    body = make_body()
    with connect(predictor) as idle, connect(predictor) as half, httpx.Client() as client:
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        half.sendall(f"{INFER}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        assert client.post(predictor.infer_url, content=body).status_code == 200
        predictor.terminate()
        wait_until_draining(predictor)
        answer = client.post(predictor.infer_url, content=body)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert httpx.get(f"{predictor.url}/v2/health/live").status_code == 200
        while not _refuses(predictor.port):
            time.sleep(0.02)
        half.sendall(body[10:])  # begun before the end: answered after the port was closed
        answer_to_half = _read_all(half)
        assert answer_to_half.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer_to_half
        assert _read_all(idle).endswith(b'{"live":true}')  # and closed
    assert predictor.wait() == 0
    assert "Traceback" not in predictor.log


def test_the_log_says_the_address_of_an_ipv6_host_as_it_is_asked(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--host", "::1")
    url = f"http://[::1]:{predictor.port}/v2/models/model"
    assert httpx.get(url).status_code == 200
    assert f"url={url} " in predictor.log


def test_who_has_connected_before_the_port_is_closed_is_answered(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root)
    predictor.process.send_signal(signal.SIGSTOP)  # so that all of it is there when it looks again
    with ExitStack() as stack:
        asking = [stack.enter_context(connect(predictor)) for _ in range(20)]
        for connection in asking:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        predictor.terminate()
        predictor.process.send_signal(signal.SIGCONT)
        for connection in asking:
            answer = _read_all(connection)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert b"connection: close" in answer
    assert predictor.wait() == 0
    assert "Traceback" not in predictor.log


def test_the_grace_is_kept_whatever_clients_do(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--grace-seconds", "1", "--answer-seconds", "60", "--body-seconds", "60")
    body = make_body(64)
    with connect(predictor) as never_reads, connect(predictor) as never_ends, connect(predictor) as half_head:
        never_reads.settimeout(0.3)
        with pytest.raises(TimeoutError):  # noqa: PT012
            while True:
                never_reads.sendall(f"{INFER}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        never_ends.sendall(f"{INFER}Content-Length: 1000\r\n\r\n".encode() + b"{")
        half_head.sendall(b"GET / HTTP/1.1\r\nX: ")
        predictor.terminate()
        assert predictor.wait(10) == 0
    assert "Traceback" not in predictor.log


@pytest.mark.parametrize("begin_to_end", [Predictor.terminate, lambda predictor: predictor.process.stdin.close()])
def test_the_grace_is_kept_whatever_the_model_is_at(start: StartPredictor, image_bundle, tmp_path, begin_to_end):
    write_image_bundle(tmp_path / "endless", golden_from=image_bundle.root, model_bytes=endless_model(above_pixels=100))
    predictor = start(tmp_path / "endless", "--engine", "onnxruntime", "--grace-seconds", "0.5", "--until-stdin-closes")
    body, deadline = make_body(side=20), time.monotonic() + PATIENCE_SECONDS
    with connect(predictor) as asking, httpx.Client(headers={"x-timeout-seconds": "0.5"}) as client:
        asking.sendall(f"{INFER}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while (
            client.post(predictor.infer_url, content=make_body()).status_code != 504
        ):  # it waits for the model, which is at work
            assert time.monotonic() < deadline
        begin_to_end(predictor)
        assert predictor.wait(20) == 0
    assert "grace_is_over" in predictor.log
    assert "Traceback" not in predictor.log


def test_the_end_waits_for_no_version_that_is_being_loaded(start: StartPredictor, image_bundle, tmp_path):
    write_image_bundle(tmp_path / "endless", golden_from=image_bundle.root, model_bytes=endless_model(above_pixels=0))
    pointer = tmp_path / "current.json"
    write_pointer(pointer, served_record(image_bundle.root, "1", model_name="model"))
    predictor = start(None, "--pointer", str(pointer), "--engine", "onnxruntime", "--grace-seconds", "600")
    before, deadline = _cpu_seconds(predictor.pid), time.monotonic() + PATIENCE_SECONDS
    write_pointer(pointer, served_record(tmp_path / "endless", "2", model_name="model"))
    while _cpu_seconds(predictor.pid) < before + 1:  # its golden examples have begun
        assert httpx.post(predictor.infer_url, content=make_body()).headers["x-model-version"] == "1"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    predictor.terminate()
    assert predictor.wait(20) == 0
    assert "Traceback" not in predictor.log


def test_a_second_signal_ends_it_at_once(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--drain-seconds", "600", "--grace-seconds", "600", "--body-seconds", "600")
    with connect(predictor) as unfinished:
        unfinished.sendall(f"{INFER}Content-Length: 1000\r\n\r\n".encode() + b"{")
        predictor.terminate()
        wait_until_draining(predictor)
        predictor.terminate()
        assert predictor.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_model_loads_ends_it_with_0(image_bundle, number):
    command = [sys.executable, "-m", "slipway.serving", "--bundle", str(image_bundle.root), "--name", "model", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _catches_sigterm(process.pid):  # and SIGINT, which it takes over before
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, "Traceback" in told) == (0, False), told


def test_a_bundle_that_is_missing_altered_or_no_bundle_is_said_in_one_line(tmp_path, image_bundle):
    assert_one_line(run_to_its_end("--bundle", str(tmp_path / "nowhere"), "--name", "m"), 1, "nowhere", "is missing")
    for name in ("model.onnx", INFO_NAME):
        altered = tmp_path / f"altered-{name}"
        shutil.copytree(image_bundle.root, altered)
        with (altered / name).open("ab") as stream:
            stream.write(b" 0")
        assert_one_line(run_to_its_end("--bundle", str(altered), "--name", "m"), 1, name)
    short = tmp_path / "short"
    shutil.copytree(image_bundle.root, short)
    (short / "model.onnx").unlink()
    assert_one_line(run_to_its_end("--bundle", str(short), "--name", "m"), 1, "model.onnx is missing")
    write_image_bundle(tmp_path / "nonsense", golden_from=image_bundle.root, model_bytes=b"no model at all")
    assert_one_line(run_to_its_end("--bundle", str(tmp_path / "nonsense"), "--name", "m"), 1)
    write_image_bundle(tmp_path / "other", seed=3, golden_from=image_bundle.root)  # hashes hold, answers do not
    assert_one_line(run_to_its_end("--bundle", str(tmp_path / "other"), "--name", "m"), 1)


def test_options_that_are_not_accepted_are_said_in_one_line(image_bundle, tmp_path):
    bundle = ("--bundle", str(image_bundle.root), "--name", "m")
    assert_one_line(run_to_its_end(), 2, "--bundle with --name, or --pointer")
    assert_one_line(run_to_its_end("--bundle", "x"), 2, "--bundle needs --name")
    assert_one_line(
        run_to_its_end(*bundle, "--max-batch-size", "0"), 2, "--max-batch-size is 0; accepted: a whole number from 1 to 4096"
    )
    assert_one_line(
        run_to_its_end(*bundle, "--head-seconds", "nan"), 2, "--head-seconds is nan; accepted: a number, 0.01 or more"
    )
    assert_one_line(run_to_its_end(*bundle, "--engine", "magic"), 2, "accepted: auto, openvino, onnxruntime")
    assert_one_line(run_to_its_end(*bundle, "--token-file", str(tmp_path / "none")), 2, "--token-file", "cannot be read")
    for name, told in (
        ("SLIPWAY_SERVING_MAX_BATCH_SIZE", "SLIPWAY_SERVING_MAX_BATCH_SIZE is 'x'; accepted: a whole number from 1 to 4096"),
        ("SLIPWAY_SERVING_TYPO", "SLIPWAY_SERVING_TYPO is no setting of the predictor"),
        ("SLIPWAY_SERVING_METRICS", "accepted: true, false"),
    ):
        assert_one_line(run_to_its_end(*bundle, environment={**child_environment(), name: "x"}), 2, told)


def test_settings_count_where_the_command_line_says_nothing(start: StartPredictor, image_bundle):
    environment = {**child_environment(), "SLIPWAY_SERVING_MAX_BODY_BYTES": "2048", "SLIPWAY_SERVING_DOCS": "off"}
    by_setting = start(image_bundle.root, environment=environment)
    assert httpx.post(by_setting.infer_url, content=b" " * 5000).status_code == 413
    assert httpx.get(f"{by_setting.url}/openapi.json").status_code == 404
    by_argument = start(image_bundle.root, "--max-body-bytes", "4096", "--docs", environment=environment)
    assert httpx.post(by_argument.infer_url, content=b" " * 3000).status_code == 400
    assert httpx.get(f"{by_argument.url}/openapi.json").status_code == 200


def test_a_taken_port_is_said_in_one_line(start: StartPredictor, image_bundle):
    taken = str(start(image_bundle.root).port)
    ended = run_to_its_end("--bundle", str(image_bundle.root), "--name", "m", "--port", taken)
    assert_one_line(ended, 1, f"Cannot listen on 127.0.0.1, port {taken}")
    served = ("--bundle", str(image_bundle.root), "--name", "m")
    assert_one_line(run_to_its_end(*served, "--host", "203.0.113.7"), 1, "Choose an address of this machine with --host")
    assert_one_line(run_to_its_end(*served, "--tracing-endpoint", "foo"), 2, "--tracing-endpoint is 'foo'; accepted: http://HOST")


def test_versions_change_under_load_and_every_request_is_answered_by_one_of_them(start: StartPredictor, tmp_path):
    expected: dict[str, list[float]] = {}
    body = make_body()
    for version in ("1", "2"):
        write_image_bundle(tmp_path / version, seed=int(version))
        alone = start(tmp_path / version)
        expected[version] = httpx.post(alone.infer_url, content=body).json()["outputs"][0]["data"]
        alone.stop()
    assert expected["1"] != pytest.approx(expected["2"], abs=1e-3)
    pointer = tmp_path / "current.json"
    write_pointer(pointer, served_record(tmp_path / "1", "1", model_name="model"))
    predictor = start(None, "--pointer", str(pointer))
    seen: list[tuple[str, list[float]]] = []
    stopped = threading.Event()

    def ask_on() -> None:
        with httpx.Client() as client:
            while not stopped.is_set():
                answer = client.post(predictor.infer_url, content=body)
                assert answer.status_code == 200, answer.text
                content = answer.json()
                assert answer.headers["x-model-version"] == content["model_version"]
                seen.append((content["model_version"], content["outputs"][0]["data"]))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        try:
            for version in ("2", "1", "2"):
                write_pointer(pointer, served_record(tmp_path / version, version, model_name="model"))
                num_seen, deadline = len(seen), time.monotonic() + PATIENCE_SECONDS
                while version not in {one for one, _ in seen[num_seen:]}:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        finally:
            stopped.set()
        for future in asking:
            future.result()
    assert {version for version, _ in seen} == {"1", "2"}
    for version, probabilities in seen:  # an answer and the version that it names belong together
        assert probabilities == pytest.approx(expected[version], abs=1e-5)
    assert "Traceback" not in predictor.log


def test_a_bundle_is_served_from_s3_and_its_copy_goes_with_the_process(start: StartPredictor, image_bundle, minio, tmp_path):
    uri = f"s3://{minio.make_bucket()}/models/one"
    ObjectStorage(minio.settings()).upload_folder(image_bundle.root, uri, last=(INFO_NAME,))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    predictor = start(uri, environment={**child_environment(), **minio.environment, "TMPDIR": str(scratch)})
    assert httpx.post(predictor.infer_url, content=make_body()).status_code == 200
    assert predictor.stop() == 0
    assert list(scratch.iterdir()) == []


def test_a_signal_while_a_bundle_is_copied_leaves_nothing_behind(tmp_path):
    environment = {**child_environment(), "TMPDIR": str(tmp_path), "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{never_answers.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway.serving", "--bundle", "s3://bucket/one", "--name", "m", "--port", "0"],
            stderr=subprocess.PIPE,
            env=environment,
        )
        never_answers.settimeout(PATIENCE_SECONDS)
        with never_answers.accept()[0]:
            assert len(list(tmp_path.iterdir())) == 1
            process.terminate()
            _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, told) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_in_s3_that_is_unfinished_altered_or_not_there_is_said_in_one_line(image_bundle, minio):
    storage, bucket = ObjectStorage(minio.settings()), minio.make_bucket()
    environment = {**child_environment(), **minio.environment}
    half, altered, short = (f"s3://{bucket}/{name}" for name in ("half", "altered", "short"))
    for uri in (half, altered, short):
        storage.upload_folder(image_bundle.root, uri)
    storage.delete(f"{half}/{INFO_NAME}")
    storage.delete(f"{short}/model.onnx")
    storage.write_bytes(f"{altered}/model.onnx", b"something else")
    assert_one_line(run_to_its_end("--bundle", half, "--name", "m", environment=environment), 1, "was not uploaded to its end")
    assert_one_line(run_to_its_end("--bundle", short, "--name", "m", environment=environment), 1, "model.onnx is missing")
    assert_one_line(run_to_its_end("--bundle", altered, "--name", "m", environment=environment), 1, "model.onnx was altered")
    nothing = run_to_its_end("--bundle", f"s3://{bucket}/nothing", "--name", "m", environment=environment)
    assert_one_line(nothing, 1, "holds no bundle.json")
    wrong = {**environment, "AWS_SECRET_ACCESS_KEY": "wrong-secret-key"}
    assert_one_line(run_to_its_end("--bundle", half, "--name", "m", environment=wrong), 1, "credentials")


def test_it_needs_no_home_no_writable_folder_and_no_name_for_its_user(start: StartPredictor, image_bundle, tmp_path):
    """As in a container with a read-only root and a user id of the cluster's choice; only the report of the port is written."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (image_bundle.root, *image_bundle.root.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    for file in image_bundle.root.iterdir():
        file.chmod(0o444)
    written = tmp_path / "written"
    written.mkdir()
    written.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    become = ["setpriv", "--reuid=12345", "--regid=54321", "--clear-groups", "--no-new-privs"]
    if not all(folder.stat().st_mode & 0o001 for folder in Path(slipway.__file__).parents):  # no other user may look in there
        become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # with which one reads, and writes no more
    predictor = start(
        image_bundle.root,
        folder=written,
        environment={"PATH": child_environment()["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/proc", "HOME": "/proc"},
        program=(*become, sys.executable, "-m", "slipway.serving"),
    )
    assert f"Uid:\t{12345}" in Path(f"/proc/{predictor.pid}/status").read_text()
    assert httpx.post(predictor.infer_url, content=make_body()).status_code == 200
    assert httpx.get(f"{predictor.url}/metrics").status_code == 200
    assert predictor.stop() == 0


def _catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own; Python has none from its start, as it has for SIGINT."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & (1 << (signal.SIGTERM - 1)))


def _cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return True
    return False


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received
