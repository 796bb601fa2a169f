"""Each answer says which request it is to, refusals of whatever kind too, and the access log says the same."""

import http.client
import json
import re
import socket
import time
from contextlib import ExitStack, closing

import grpc
import httpx
import numpy as np
import pytest

from slipway.serving.grpc.messages import ModelInferRequest
from slipway.serving.wire.v2 import write_request
from slipway.settings import child_environment
from tests.bundles import failing_model, write_image_bundle
from tests.servers.certificates import Authority
from tests.serving.conftest import StartPredictor
from tests.serving.grpc_calls import INFERENCE, WAIT_SECONDS, image_request, refusal
from tests.serving.predictor import Predictor

PATIENCE_SECONDS = 20
TOKEN = "a-token-of-the-shop"
LIMITS = (
    *("--head-seconds", "0.5"),
    *("--body-seconds", "0.5"),
    *("--max-headers", "20"),
    *("--max-body-bytes", "2000000"),
    *("--max-receiving-bytes", "1048576"),
    *("--max-connections", "2"),
)
OPEN = "Host: a\r\n"
SHOWN = f"{OPEN}Authorization: Bearer {TOKEN}\r\n"
INFER = "POST /v2/models/model/infer HTTP/1.1\r\n"
ANSWERS = {
    "a probe": (f"GET /v2/health/live HTTP/1.1\r\n{OPEN}", "\r\n", 200),
    "metadata": (f"GET /v2/models/model HTTP/1.1\r\n{SHOWN}", "\r\n", 200),
    "methods": (f"OPTIONS /v2 HTTP/1.1\r\n{SHOWN}", "\r\n", 204),
    "no HTTP": (f"GET /v2 HTTP/1.1\r\n{OPEN}", "A: b\r\nNo colon\r\n\r\n", 400),
    "no host": ("GET /v2 HTTP/1.1\r\n", "\r\n", 400),
    "no JSON": (f"{INFER}{SHOWN}", "Content-Length: 1\r\n\r\n{", 400),
    "no chunk": (f"{INFER}{SHOWN}", "Transfer-Encoding: chunked\r\n\r\nno chunk\r\n", 400),
    "no token": (f"GET /v2 HTTP/1.1\r\n{OPEN}", "\r\n", 401),
    "no path": (f"GET /nowhere HTTP/1.1\r\n{SHOWN}", "\r\n", 404),
    "no method": (f"DELETE /v2 HTTP/1.1\r\n{SHOWN}", "\r\n", 405),
    "a slow head": (f"GET /v2 HTTP/1.1\r\n{OPEN}", "X-Slow: ", 408),
    "a slow body": (f"{INFER}{SHOWN}", "Content-Length: 1000\r\n\r\n{", 408),
    "a large body": (f"{INFER}{SHOWN}", "Content-Length: 3000000\r\n\r\n", 413),
    "a large head": (f"GET /v2 HTTP/1.1\r\n{OPEN}", "X: 1\r\n" * 30 + "\r\n", 431),
    "no room": (f"{INFER}{SHOWN}", f"Content-Length: 1100000\r\n\r\n{' ' * 1100000}", 503),
}
"""What is sent before and after the header with the id, and the answer's status."""


@pytest.fixture(scope="module")
def strict(start_for_module: StartPredictor, image_bundle) -> Predictor:
    """A predictor that wants a token, has little patience and logs whom it turns away."""
    environment = child_environment(SLIPWAY_SERVING_TOKEN=TOKEN, SLIPWAY_LOG_FORMAT="json")
    return start_for_module(image_bundle.root, "--grpc-port", "0", "--access-log", "0.001", *LIMITS, environment=environment)


def connect(predictor: Predictor) -> socket.socket:
    return socket.create_connection(("127.0.0.1", predictor.port), timeout=PATIENCE_SECONDS)


def ask(connection: socket.socket, sent: str) -> http.client.HTTPResponse:
    connection.sendall(sent.encode("latin-1"))
    with closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        answer.read()
    return answer


def ids_of(answer: http.client.HTTPResponse) -> list[str]:
    return [value for name, value in answer.getheaders() if name == "x-request-id"]


def is_new(request_id: str) -> bool:
    return re.fullmatch("[0-9a-f]{16}", request_id) is not None


def find_lines(predictor: Predictor, request_id: str, num_lines: int) -> dict[str, dict]:
    """What the log says of a request, by event, once it is so many lines."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ours = [json.loads(line) for line in predictor.log.splitlines() if line.startswith("{")]  # the engine writes its own
        lines = [line for line in ours if line.get("request_id") == request_id]
        if len(lines) >= num_lines:
            return {line["event"]: line for line in lines}
        assert time.monotonic() < deadline, predictor.log
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_says_the_id_that_its_client_gave(strict, kind):
    begun, rest, status = ANSWERS[kind]
    with connect(strict) as connection:
        answer = ask(connection, f"{begun}X-Request-Id: order-17\r\n{rest}")
    assert (answer.status, ids_of(answer)) == (status, ["order-17"])


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_to_a_request_without_an_id_has_a_new_one(strict, kind):
    begun, rest, status = ANSWERS[kind]
    found = []
    for _ in range(2):
        with connect(strict) as connection:
            answer = ask(connection, begun + rest)
        assert answer.status == status
        found += ids_of(answer)
    assert len(set(found)) == 2
    assert all(map(is_new, found))


@pytest.mark.parametrize(
    "stated",
    ["", "two words", "a\tb", "m\xfcller", "x" * 129, "one\r\nX-Request-Id: other", "one\r\n folded: yes", "one\rX-Injected: 1"],
    ids=["empty", "words", "tab", "not ASCII", "long", "twice", "folded", "carriage return"],
)
@pytest.mark.parametrize("kind", ["no token", "no HTTP", "a large head"])
def test_an_id_that_cannot_stand_in_a_header_stands_in_no_answer_and_in_no_log(strict, kind, stated):
    begun, rest, _ = ANSWERS[kind]
    with connect(strict) as connection:
        answer = ask(connection, f"{begun}X-Request-Id: {stated}\r\n{rest}")
    (given,) = ids_of(answer)
    assert is_new(given)
    assert answer.getheader("x-injected") is None
    (line,) = find_lines(strict, given, 1).values()
    assert (line["event"], line["status"]) == ("request_refused", answer.status)


def test_the_id_of_a_request_is_not_that_of_the_next_one_on_its_connection(strict):
    with connect(strict) as connection:
        (first,) = ids_of(ask(connection, f"GET /v2 HTTP/1.1\r\n{SHOWN}X-Request-Id: order-18\r\n\r\n"))
        (second,) = ids_of(ask(connection, f"GET /v2 HTTP/1.1\r\n{SHOWN}\r\n"))
        refused = ask(connection, "nonsense\r\n\r\n")
    (third,) = ids_of(refused)
    assert (first, refused.status) == ("order-18", 400)
    assert len({second, third}) == 2
    assert is_new(second)
    assert is_new(third)


@pytest.mark.parametrize("kind", ["no HTTP", "no host", "no token", "a slow head", "a large head"])
def test_the_log_names_a_refused_request_as_its_answer_does(strict, kind):
    begun, rest, status = ANSWERS[kind]
    with connect(strict) as connection:
        (given,) = ids_of(ask(connection, begun + rest))
    (line,) = find_lines(strict, given, 1).values()
    assert (line["event"], line["status"], line["address"]) == ("request_refused", status, "127.0.0.1")


@pytest.mark.parametrize("kind", ["no chunk", "a slow body", "no room"])
def test_a_prediction_whose_body_was_refused_has_one_id_in_its_answer_and_both_its_lines(strict, kind):
    begun, rest, status = ANSWERS[kind]
    with connect(strict) as connection:
        (given,) = ids_of(ask(connection, begun + rest))
    lines = find_lines(strict, given, 2)
    assert {event: line["status"] for event, line in lines.items()} == {"request_refused": status, "request": 499}


def test_a_body_that_stops_behind_its_answer_is_no_refusal_of_which_nobody_was_told(strict):
    with connect(strict) as connection:
        answer = ask(connection, f"{INFER}{SHOWN}X-Request-Id: order-24\r\nContent-Length: 3000000\r\n\r\n{{")
        assert (answer.status, connection.recv(1)) == (413, b"")
    assert set(find_lines(strict, "order-24", 1)) == {"request"}


def test_a_trailer_is_no_header(strict):
    body = "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX-Request-Id: order-25\r\n\r\n"
    with connect(strict) as connection:
        answer = ask(connection, f"{INFER}{SHOWN}{body}")
    (given,) = ids_of(answer)
    assert (answer.status, is_new(given)) == (400, True)


def test_who_comes_when_all_connections_are_taken_is_told_an_id_too(strict):
    with ExitStack() as stack:
        for _ in range(2):
            busy = stack.enter_context(connect(strict))
            busy.sendall(f"{INFER}{SHOWN}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
            assert busy.recv(65536).startswith(b"HTTP/1.1 100 ")  # its head is read: it does not rest
        refused = httpx.get(f"{strict.url}/v2", headers={"x-request-id": "order-19"})
        assert httpx.get(f"{strict.url}/v2/health/live", headers={"x-request-id": "probe-1"}).headers["x-request-id"] == "probe-1"
    assert (refused.status_code, refused.headers["x-request-id"]) == (503, "order-19")
    assert find_lines(strict, "order-19", 1)["request_refused"]["status"] == 503


def test_who_asks_too_often_and_a_browser_that_asks_first_are_told_an_id_too(start: StartPredictor, image_bundle):
    limited = start(image_bundle.root, "--requests-per-second", "0.01", "--cors-origins", "*")
    answers = [httpx.get(f"{limited.url}/v2", headers={"x-request-id": f"order-{number}"}) for number in range(2)]
    told = [(answer.status_code, answer.headers["x-request-id"]) for answer in answers]
    assert told == [(200, "order-0"), (429, "order-1")]
    asked_first = {"origin": "https://shop.example", "access-control-request-method": "POST", "x-request-id": "order-2"}
    answer = httpx.options(f"{limited.url}/v2", headers=asked_first)
    assert (answer.status_code, answer.headers["x-request-id"]) == (204, "order-2")


def test_who_shows_no_certificate_is_told_an_id_too(start: StartPredictor, image_bundle, tmp_path):
    authority = Authority()
    authority.issue("127.0.0.1").write(tmp_path / "server.pem", tmp_path / "server.key")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    files = ("--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"))
    guarded = start(image_bundle.root, *files, "--tls-client-ca", str(tmp_path / "ca.pem"))
    answer = httpx.get(f"{guarded.url}/v2", headers={"x-request-id": "order-20"}, verify=False)
    assert (answer.status_code, answer.headers["x-request-id"]) == (403, "order-20")


@pytest.mark.parametrize("stated", [("order-21",), (), ("two words",), ("order-26", "order-27")])
def test_calls_over_grpc_are_told_their_id_whatever_comes_of_them(strict, stated):
    metadata = [("x-request-id", each) for each in stated]
    with grpc.insecure_channel(f"127.0.0.1:{strict.grpc_port}") as channel:
        _, ready = channel.unary_unary(f"{INFERENCE}ServerReady").with_call(b"", metadata=metadata, timeout=WAIT_SECONDS)
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{INFERENCE}ModelInfer")(
                ModelInferRequest().SerializeToString(), metadata=metadata, timeout=WAIT_SECONDS
            )
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    answered, turned_away = (dict(end.trailing_metadata())["x-request-id"] for end in (ready, refused.value))
    if stated == ("order-21",):
        assert (answered, turned_away) == ("order-21", "order-21")
    else:
        assert is_new(answered)
        assert is_new(turned_away)
    assert find_lines(strict, turned_away, 1)["request_refused"]["status"] == 401


def test_the_log_names_a_request_that_the_model_fails_on_as_its_answer_does(start: StartPredictor, image_bundle, tmp_path):
    write_image_bundle(tmp_path / "failing", golden_from=image_bundle.root, model_bytes=failing_model(above_pixels=100))
    environment = child_environment(SLIPWAY_LOG_FORMAT="json")
    running = start(tmp_path / "failing", "--engine", "onnxruntime", "--grpc-port", "0", environment=environment)
    pixels = np.zeros((1, 20, 20, 3), np.uint8)
    body = write_request({"image": pixels}, image_bundle.info.signature)
    answer = httpx.post(running.infer_url, content=body, headers={"x-request-id": "order-22"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "order-22")
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        assert refusal(channel, "ModelInfer", image_request(pixels, id="order-23"))[0] == grpc.StatusCode.INTERNAL
    for request_id in ("order-22", "order-23"):
        failed = find_lines(running, request_id, 1)["prediction_failed"]
        assert (failed["shapes"], "out of data bounds" in failed["exception"]) == ({"image": [1, 20, 20, 3]}, True)
