"""What the RFCs of HTTP/1.1 (9110, 9112) let a client say, and what they want to be refused."""

import http.client
import json
import socket
from contextlib import closing

import httpx
import pytest

from tests.serving.predictor import Predictor

PATIENCE_SECONDS = 20
HOST = "Host: a\r\n"


def ask(predictor: Predictor, sent: str) -> tuple[http.client.HTTPResponse, bytes]:
    with socket.create_connection(("127.0.0.1", predictor.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent.encode("latin-1"))
        with closing(http.client.HTTPResponse(connection)) as answer:
            answer.begin()
            return answer, answer.read()


def told(answer: tuple[http.client.HTTPResponse, bytes]) -> tuple[int, str]:
    return answer[0].status, json.loads(answer[1])["error"]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http://a", {"status": "alive"}),
        ("http://a?x", {"status": "alive"}),
        ("http://a:80/v2/health/live", {"live": True}),
        ("HTTPS://a/v2/health/live?x=1", {"live": True}),
    ],
)
def test_a_target_may_be_in_the_absolute_form(predictor, target, found):
    answer, content = ask(predictor, f"GET {target} HTTP/1.1\r\n{HOST}\r\n")
    assert (answer.status, json.loads(content)) == (200, found)


def test_the_query_of_an_absolute_target_counts(predictor):
    sent = f"POST http://a/v2/models/model/infer?x=1 HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\n{{}}"
    assert told(ask(predictor, sent)) == (400, "'x' is not known in the query; accepted: top_k.")


def test_the_methods_of_the_server_as_a_whole_are_said(predictor):
    answer, _ = ask(predictor, f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n")
    assert (answer.status, answer.getheader("allow")) == (204, "GET, HEAD, POST, OPTIONS")


@pytest.mark.parametrize(("version", "status"), [("1.2", 200), ("1.0", 200), ("2.0", 400), ("0.9", 400)])
def test_a_later_version_of_http_1_is_answered_and_no_other(predictor, version, status):
    answer, _ = ask(predictor, f"GET /v2 HTTP/{version}\r\n{HOST}\r\n")
    assert (answer.status, answer.version) == (status, 11)


@pytest.mark.parametrize("method", ["FOO", "get", "GETS", "X-Y"])
def test_a_method_that_nobody_knows_is_told_those_that_are_known(predictor, method):
    answer = ask(predictor, f"{method} /v2 HTTP/1.1\r\n{HOST}\r\n")
    assert told(answer) == (405, "The method is known nowhere here; accepted: GET, HEAD, POST, OPTIONS.")
    assert (answer[0].getheader("allow"), answer[0].getheader("connection")) == ("GET, HEAD, POST, OPTIONS", "close")


@pytest.mark.parametrize("sent", ["nonsense\r\n\r\n", "FOO\r\n\r\n", "\x16\x03\x01\x02\x00\r\n", "FOO / SMTP\r\n\r\n"])
def test_what_is_no_http_is_told_so(predictor, sent):
    status, sentence = told(ask(predictor, sent))
    assert (status, "no valid HTTP/1.1 request" in sentence) == (400, True)


@pytest.mark.parametrize("target", ["a:80", "http://a/v2", "/v2", "*"])
def test_a_tunnel_is_refused_and_nothing_hangs(predictor, target):
    answer, _ = ask(predictor, f"CONNECT {target} HTTP/1.1\r\n{HOST}\r\n")
    assert answer.status == 405
    assert httpx.get(f"{predictor.url}/v2/health/live", timeout=PATIENCE_SECONDS).status_code == 200


@pytest.mark.parametrize("host", ["a b/c", "a/b", "a:b", "::1", "user@a", "\xe4", "[::1"])
def test_a_host_that_is_none_is_refused(predictor, host):
    status, sentence = told(ask(predictor, f"GET /v2 HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    assert (status, "no valid HTTP/1.1 request" in sentence) == (400, True)


@pytest.mark.parametrize("host", ["a", "a ", "", "a.b-c_d.example:8080", "127.0.0.1:80", "[::1]:80", "[fe80::1%25eth0]", "a:"])
def test_a_host_that_is_one_is_accepted(predictor, host):
    assert ask(predictor, f"GET /v2 HTTP/1.1\r\nHost: {host}\r\n\r\n")[0].status == 200


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "gzip\r\nTransfer-Encoding: Chunked", "identity,chunked", "gzip", "xchunked"]
)
def test_a_transfer_coding_that_is_not_undone_is_refused(predictor, coding):
    head = f"POST /v2/models/model/infer HTTP/1.1\r\n{HOST}Transfer-Encoding: {coding}\r\n\r\n"
    assert told(ask(predictor, head)) == (501, "Transfer-Encoding is not one that is known here; accepted: chunked.")


def test_a_chunked_body_is_read(predictor):
    head = f"POST /v2/models/model/infer HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n"
    status, sentence = told(ask(predictor, head + "2\r\n{}\r\n0\r\n\r\n"))
    assert (status, sentence.startswith("inputs is null")) == (400, True)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("Text/HTML; q=0.5", "text/html; charset=utf-8"),
        ("text/html;q=0", "application/json"),
        ("text/html; q=0.000, */*", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_page_is_for_who_names_it_and_caches_are_told(predictor, accept, media_type):
    answer = httpx.get(predictor.url, headers={"accept": accept})
    assert (answer.headers["content-type"], answer.headers["vary"]) == (media_type, "accept")
