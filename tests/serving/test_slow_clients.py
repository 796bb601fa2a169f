"""Clients that take their time, take too much, or speak no HTTP: they are told, they are let go, and health goes on answering."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.serving.conftest import StartPredictor
from tests.serving.predictor import Predictor

PATIENCE_SECONDS = 20
LIMITS = (
    *("--head-seconds", "0.5"),
    *("--body-seconds", "0.5"),
    *("--min-body-rate", "100000"),
    *("--answer-seconds", "1"),
    *("--keep-alive-seconds", "0.7"),
    *("--max-head-bytes", "8192"),
    *("--max-headers", "40"),
    *("--max-connections", "8"),
    *("--max-receiving-bytes", str(4 * 2**20)),
)
INFER = "POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\n"
GET = "GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def strict(start_for_module: StartPredictor, image_bundle) -> Predictor:
    """A predictor with little patience."""
    return start_for_module(image_bundle.root, *LIMITS)


@pytest.fixture
def connect(strict) -> Iterator[Connect]:
    opened: list[socket.socket] = []

    def open_connection() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE_SECONDS))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()
    assert httpx.get(f"{strict.url}/v2/health/live").status_code == 200
    assert "Traceback" not in strict.log


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset counts as closing."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> str:
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_a_head_that_comes_byte_by_byte_is_refused_in_the_end(connect):
    connection = connect()
    connection.settimeout(0.1)
    sent, answer = 0, b""
    while not answer:
        connection.sendall(INFER[sent % 20 : sent % 20 + 1].encode() if sent else b"P")
        sent += 1
        assert sent < 200
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            continue
    assert status_of(answer) == 408
    assert "head did not arrive within 0.5 s" in error_of(answer)
    assert b"connection: close" in answer


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_request_that_would_rather_go_on_in_another_protocol_is_answered_in_this_one(connect, pieces):
    connection = connect()
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    sent = f"{INFER}{upgrade}Content-Length: 14\r\n\r\n".encode() + b'{"inputs": []}' + GET.encode()
    size = -(-len(sent) // pieces)
    for start in range(0, len(sent), size):
        connection.sendall(sent[start : start + size])
        time.sleep(0.01)
    answer = b""
    while b"live" not in answer:
        answer += connection.recv(65536)
    assert status_of(answer) == 400
    assert b"inputs lacks image" in answer


def test_very_many_requests_at_once_for_another_protocol_are_all_answered(connect):
    connection = connect()
    asked = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    connection.sendall(asked * 2000)
    answers = b""
    while answers.count(b'{"live":true}') < 2000:
        piece = connection.recv(1 << 20)
        assert piece, answers[-500:]
        answers += piece


def test_many_slow_heads_keep_nobody_out(strict, connect):
    slow = [connect() for _ in range(30)]
    for connection in slow:
        connection.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nX-Slow: ")
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/v2/models/model"):
        assert httpx.get(strict.url + path, timeout=10).status_code == 200
    for connection in slow:
        answer = read_all(connection)
        assert answer == b"" or status_of(answer) == 408


def test_a_connection_on_which_nothing_is_asked_is_closed(connect):
    assert read_all(connect()) == b""


def test_empty_lines_do_not_keep_a_connection_open(connect):
    connection = connect()
    with pytest.raises(ConnectionError):  # noqa: PT012 - whichever of the writes is the first to meet the closed end
        for _ in range(100):
            connection.sendall(b"\r\n")
            time.sleep(0.05)


def test_a_connection_may_rest_between_requests_for_so_long_and_no_longer(connect):
    connection = connect()
    for _ in range(2):
        connection.sendall(GET.encode())
        answer = b""
        while b"live" not in answer:
            answer += connection.recv(65536)
        assert status_of(answer) == 200
        time.sleep(0.2)
    assert read_all(connection) == b""


def test_a_body_that_stops_is_refused_and_one_that_is_steady_is_not(connect):
    stopped = connect()
    stopped.sendall(f"{INFER}Content-Length: 100000\r\n\r\n".encode() + b"{" * 10)
    answer = read_all(stopped)
    assert status_of(answer) == 408
    assert "less than 100000 bytes a second" in error_of(answer)

    steady = connect()
    steady.sendall(f"{INFER}Content-Length: 200000\r\nConnection: close\r\n\r\n".encode())
    for _ in range(10):  # a second in all: longer than a short body may take
        steady.sendall(b" " * 20000)
        time.sleep(0.1)
    assert status_of(read_all(steady)) == 400  # it is heard to its end, and is no JSON


@pytest.mark.parametrize(
    ("begun", "rest"), [("Content-Length: 10\r\n\r\nabc", ""), ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "nonsense\r\n")]
)
def test_a_request_that_is_answered_before_its_body_is_there_gets_no_second_answer(connect, begun, rest):
    connection = connect()
    connection.sendall(f"POST /nope HTTP/1.1\r\nHost: a\r\n{begun}".encode())
    assert status_of(connection.recv(65536)) == 404
    connection.sendall(rest.encode())
    assert read_all(connection) == b""


def test_a_body_of_single_bytes_is_refused(connect):
    connection = connect()
    connection.sendall(f"{INFER}Transfer-Encoding: chunked\r\n\r\n".encode())
    connection.settimeout(0.02)
    answer, begun = b"", time.monotonic()
    while not answer and time.monotonic() - begun < PATIENCE_SECONDS:
        connection.sendall(b"1\r\n \r\n")
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            continue
    assert status_of(answer) == 408


def test_a_client_that_asks_on_and_reads_no_answer_is_let_go_and_takes_little_memory(strict):
    request = b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n"  # a large answer to little: what the kernel holds of it is soon full
    before = strict.memory_bytes
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        connection.connect(("127.0.0.1", strict.port))
        with pytest.raises(ConnectionError):  # noqa: PT012
            begun = time.monotonic()
            while time.monotonic() - begun < PATIENCE_SECONDS:
                try:
                    connection.sendall(request)
                except TimeoutError:
                    time.sleep(0.1)
    assert strict.memory_bytes - before < 60e6
    assert httpx.get(f"{strict.url}/v2/health/live").status_code == 200
    assert "Traceback" not in strict.log


def test_a_client_that_stops_halfway_through_its_sending_is_forgotten(strict, connect):
    connection = connect()
    connection.sendall(f"{INFER}Content-Length: 50\r\n\r\n".encode() + b"{")
    connection.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b""


def test_requests_that_are_sent_at_once_are_answered_in_order(connect):
    connection = connect()
    paths = ["/v2/health/live", "/v2/models/nobody", "/v2/health/ready", "/v2/models/model/ready"]
    sent = "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths)
    connection.sendall(sent.encode())
    answers = read_all(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404", b"200", b"200"]


def test_what_was_asked_before_nonsense_is_still_answered(connect):
    connection = connect()
    connection.sendall(f"{GET}{GET}".encode() + b"\x00\x01nonsense\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", read_all(connection)) == [b"200", b"200"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nNo colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        INFER.encode() + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        INFER.encode() + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n",
        INFER.encode() + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        INFER.encode() + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc\r\n",
    ],
)
def test_what_is_no_http_gets_400_and_the_connection_ends(connect, nonsense):
    connection = connect()
    connection.sendall(nonsense)
    answer = read_all(connection)
    assert status_of(answer) == 400
    assert "no valid HTTP/1.1 request" in error_of(answer)
    assert b"connection: close" in answer
    assert b"server:" not in answer.lower()


@pytest.mark.parametrize(
    "request_",
    [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"],
)
def test_a_request_without_the_one_host_header_gets_400(connect, request_):
    connection = connect()
    connection.sendall(request_)
    answer = read_all(connection)
    assert status_of(answer) == 400
    assert "the header Host is missing, or stands twice; accepted: once" in error_of(answer)


@pytest.mark.parametrize(
    "head",
    [
        "GET /v2 HTTP/1.1\r\nHost: a\r\n" + "".join(f"X-{number}: 1\r\n" for number in range(60)),
        f"GET /v2 HTTP/1.1\r\nHost: a\r\nX-Long: {'a' * 9000}\r\n",
        f"GET /v2?{'a' * 9000} HTTP/1.1\r\nHost: a\r\n",
    ],
    ids=["many", "long", "target"],
)
def test_a_head_that_is_too_large_gets_431(connect, head):
    connection = connect()
    connection.sendall(f"{head}\r\n".encode())
    answer = read_all(connection)
    assert status_of(answer) == 431
    assert "at most 8192 bytes in 40 headers" in error_of(answer)


def test_a_header_without_an_end_gets_431_and_is_not_kept(strict, connect):
    connection, before = connect(), strict.memory_bytes
    connection.sendall(b"GET /v2 HTTP/1.1\r\nX-Endless: ")
    with pytest.raises(ConnectionError):  # noqa: PT012
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_SECONDS:
            connection.sendall(b"a" * 65536)
    assert strict.memory_bytes - before < 20e6


def test_trailers_count_as_headers(connect):
    connection = connect()
    trailers = "".join(f"X-{number}: 1\r\n" for number in range(60))
    connection.sendall(f"{INFER}Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n{trailers}\r\n".encode())
    assert status_of(read_all(connection)) == 431


def test_a_body_that_is_shorter_than_it_said_does_not_become_the_next_request(connect):
    connection = connect()
    connection.sendall(f"{INFER}Content-Length: {len(GET) + 100}\r\n\r\n{GET}".encode())
    assert status_of(read_all(connection)) == 408


def test_a_body_that_is_too_large_is_refused_while_the_client_still_sends(strict, connect):
    connection = connect()
    connection.sendall(f"{INFER}Content-Length: {10**12}\r\n\r\n".encode())
    answer = b""
    connection.settimeout(0.01)
    for _ in range(1000):
        try:
            answer += connection.recv(65536)
            break
        except TimeoutError:
            connection.sendall(b" " * 65536)
    assert status_of(answer) == 413


def test_a_client_that_reads_only_when_it_has_sent_all_still_hears_why_it_was_refused(connect):
    connection = connect()
    connection.sendall(f"{INFER}Content-Length: {10**12}\r\n\r\n".encode())
    for _ in range(64):
        connection.sendall(b" " * 2**18)
    assert status_of(connection.recv(65536)) == 413


def test_bodies_on_their_way_are_bounded_all_together(connect):
    senders = [connect() for _ in range(6)]
    for sender in senders:
        sender.sendall(f"{INFER}Content-Length: {2**20}\r\n\r\n".encode() + b" " * (900 * 1024))
    answers = [read_all(sender) for sender in senders]
    statuses = [status_of(answer) for answer in answers]
    assert 503 in statuses
    assert set(statuses) <= {503, 408}
    refused = answers[statuses.index(503)]
    assert b"retry-after: 1" in refused
    again = connect()  # nothing of it is still counted
    again.sendall(f"{INFER}Content-Length: {2**20}\r\nConnection: close\r\n\r\n".encode() + b" " * 2**20)
    assert status_of(read_all(again)) == 400


def test_with_all_connections_busy_probes_are_answered_and_others_told_to_come_again(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--max-connections", "8", "--body-seconds", "60")
    with ExitStack() as stack:
        for _ in range(8):
            address = ("127.0.0.1", predictor.port)
            busy = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))
            busy.sendall(f"{INFER}Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n".encode())
            assert busy.recv(65536).startswith(b"HTTP/1.1 100 ")  # its head is read: it does not rest
        assert httpx.get(f"{predictor.url}/v2/health/ready").status_code == 200
        assert httpx.get(f"{predictor.url}/v2/models/model/ready").status_code == 200
        answer = httpx.get(f"{predictor.url}/v2/models/model")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "as many connections as it takes" in answer.json()["error"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while httpx.get(f"{predictor.url}/v2/models/model").status_code != 200:
        assert time.monotonic() < deadline, "those that have left still count"


def test_an_upgrade_is_not_taken_up_and_the_request_is_answered(connect):
    connection = connect()
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert status_of(read_all(connection)) == 200


def test_an_http_1_0_client_is_answered_and_let_go(connect):
    connection = connect()
    connection.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert status_of(read_all(connection)) == 200
