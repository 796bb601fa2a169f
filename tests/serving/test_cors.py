"""What a page of another origin gets to read: every answer, refusals too, where its origin is named; else none."""

import re
import signal
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from slipway.settings import child_environment
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import Predictor

SHOP, STRANGER = {"origin": "https://shop.example"}, {"origin": "https://else.example"}
TOKEN = {"authorization": "Bearer a-token-of-the-shop"}
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, content-type"}
ALLOWED = "access-control-allow-origin"
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def guarded(start_for_module: StartPredictor, image_bundle) -> Predictor:
    """A predictor that wants a token and little of each client."""
    limits = ("--head-seconds", "0.5", "--max-headers", "20", "--max-connections", "2")
    environment = child_environment(SLIPWAY_SERVING_TOKEN=TOKEN["authorization"].split()[1])
    return start_for_module(image_bundle.root, "--cors-origins", SHOP["origin"], *limits, environment=environment)


@pytest.fixture
def client(guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url) as client:
        yield client


def test_answers_and_errors_can_be_read_by_pages_of_the_named_origin_alone(client):
    for path, status in (("/v2", 200), ("/v2/models/model/nowhere", 404), ("/v2/models/model/infer", 405)):
        answer = client.get(path, headers={**SHOP, **TOKEN})
        assert (answer.status_code, answer.headers[ALLOWED], answer.headers["vary"]) == (status, SHOP["origin"], "origin")
        assert {"x-request-id", "traceparent"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        answer = client.get(path, headers={**STRANGER, **TOKEN})
        assert (answer.status_code, answer.headers.get(ALLOWED), answer.headers["vary"]) == (status, None, "origin")


def test_a_page_can_read_that_it_needs_a_token(client):
    answer = client.post("/v2/models/model/infer", json={}, headers=SHOP)
    assert (answer.status_code, answer.headers[ALLOWED]) == (401, SHOP["origin"])
    assert ALLOWED not in client.post("/v2/models/model/infer", json={}, headers=STRANGER).headers


def test_a_page_can_read_that_it_asks_too_often(start: StartPredictor, image_bundle):
    running = start(image_bundle.root, "--cors-origins", "*", "--requests-per-second", "0.01", "--burst", "1")
    answers = [httpx.get(f"{running.url}/v2", headers=SHOP) for _ in range(2)]
    assert [(answer.status_code, answer.headers[ALLOWED]) for answer in answers] == [(200, "*"), (429, "*")]
    assert "retry-after" in answers[1].headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("rest", "status"),
    [("X-Slow: ", 408), ("X: 1\r\n" * 30 + "\r\n", 431), ("X: 1\r\nNo header\r\n\r\n", 400)],
    ids=["408", "431", "400"],
)
def test_a_page_can_read_what_its_connection_is_refused_for(guarded, rest, status):
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(f"GET /v2 HTTP/1.1\r\nHost: a\r\nOrigin: {SHOP['origin']}\r\n{rest}".encode())
        answer = connection.recv(65536).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert re.findall(rf"{ALLOWED}: (.*)\r\n", answer) == [SHOP["origin"]]


def test_a_page_can_read_that_all_connections_are_taken_and_its_browser_is_still_let_ask(guarded):
    busy = [socket.create_connection(("127.0.0.1", guarded.port), timeout=PATIENCE_SECONDS) for _ in range(2)]
    try:
        for connection in busy:
            head = f"POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN['authorization']}\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")  # its head is read: it does not rest
        refused = httpx.get(f"{guarded.url}/v2", headers=SHOP)
        assert (refused.status_code, refused.headers.get_list(ALLOWED)) == (503, [SHOP["origin"]])
        assert httpx.options(f"{guarded.url}/v2", headers={**SHOP, **PREFLIGHT}).status_code == 204
        probe = httpx.get(f"{guarded.url}/v2/health/live", headers=SHOP)
        assert (probe.status_code, probe.headers.get_list(ALLOWED)) == (200, [SHOP["origin"]])
    finally:
        for connection in busy:
            connection.close()


def test_a_browsers_question_ends_its_connection_too_while_the_process_drains(start: StartPredictor, image_bundle):
    running = start(image_bundle.root, "--cors-origins", SHOP["origin"], "--drain-seconds", "600")
    assert "connection" not in httpx.options(f"{running.url}/v2", headers={**SHOP, **PREFLIGHT}).headers
    running.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while httpx.get(f"{running.url}/v2/health/ready").status_code != 503:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answer = httpx.options(f"{running.url}/v2", headers={**SHOP, **PREFLIGHT})
    running.process.send_signal(signal.SIGINT)  # enough of it
    assert (answer.status_code, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("path", ["/v2/models/model/infer", "/v1/models/model:predict", "/v2/models", "/nowhere"])
def test_a_browser_may_ask_without_a_token_whether_a_named_page_may_send_one(client, path):
    answer = client.options(path, headers={**SHOP, **PREFLIGHT})
    assert (answer.status_code, answer.content, answer.headers[ALLOWED]) == (204, b"", SHOP["origin"])
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    refused = client.options(path, headers={**STRANGER, **PREFLIGHT})
    assert (refused.status_code, refused.headers.get(ALLOWED)) == (401, None)
    assert client.options(path, headers=SHOP).status_code == 401


def test_without_named_origins_no_page_may_read_anything(predictor):
    for answer in (
        httpx.get(f"{predictor.url}/v2", headers=SHOP),
        httpx.options(f"{predictor.url}/v2", headers={**SHOP, **PREFLIGHT}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
