"""Odd requests sent to a predictor, and what must hold of the answer to each."""

import http.client
import json
import re
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from math import ceil
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks as openapi_checks

from tests.serving.odd_requests import RawSent, Sent, make_valid_requests, mutated_requests, raw_requests
from tests.serving.predictor import Predictor

MIB = 2**20
IMPATIENT = ("--head-seconds", "1", "--body-seconds", "1")
"""What a predictor that is fuzzed is started with: a request that stops half-way gets its answer soon."""
EVERY_STATUS = {200, 400, 404, 405, 415}
"""That a good many odd requests meet."""
TIMEOUT_SECONDS = 30
_REFUSED = range(400, 500)
_REQUESTS_PER_RAW = 20
_RAW_AT_ONCE = 20


class Client:
    """Sends, looks at every answer, and counts them by status. A request that gets none is a failure."""

    def __init__(self, predictor: Predictor) -> None:
        self.answers: Counter[int] = Counter()
        self._predictor = predictor
        self._connection = http.client.HTTPConnection("127.0.0.1", predictor.port, timeout=TIMEOUT_SECONDS)

    def send(self, sent: Sent) -> int:
        """Send on one connection, kept while the server does not say that it ends it; the status."""
        self._connection.putrequest(sent.method, sent.path, skip_accept_encoding=True)
        for name, value in sent.headers:
            self._connection.putheader(name, value.encode("latin-1", "replace"))
        self._connection.putheader("content-length", str(len(sent.body)))
        try:
            with suppress(ConnectionError):  # it may have been refused before it was all sent: the answer is there
                self._connection.endheaders(sent.body)
            response = self._connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise AssertionError(f"no whole answer to {sent}") from error
        if response.will_close:
            self._connection.close()
        return self._take(response, content, sent.method, sent)

    def send_raw(self, several: list[RawSent]) -> None:
        """Send bytes that are hardly HTTP at the same time, each on a connection of its own."""
        with ExitStack() as stack:
            connections = []
            for sent in several:
                connection = socket.create_connection(("127.0.0.1", self._predictor.port), timeout=TIMEOUT_SECONDS)
                connections.append(stack.enter_context(connection))
                connection.sendall(sent.data)
                if sent.leaves:
                    connection.shutdown(socket.SHUT_WR)
            for connection, sent in zip(connections, several, strict=True):
                self._read_raw(connection, sent)

    def _read_raw(self, connection: socket.socket, sent: RawSent) -> None:
        """An answer is due to whatever begins a request, however it goes on: to all but empty lines (RFC 9112, section 2.2)."""
        method = sent.data.lstrip().partition(b" ")[0].decode("latin-1")
        with closing(http.client.HTTPResponse(connection, method=method)) as response:
            try:
                response.begin()
                content = response.read()
            except (http.client.HTTPException, OSError) as error:
                asks_nothing = sent.leaves or not sent.data.strip(b"\r\n")
                if asks_nothing and isinstance(error, ConnectionError):
                    return
                raise AssertionError(f"no whole answer to {sent}") from error
            self._take(response, content, method, sent)

    def _take(self, response: http.client.HTTPResponse, content: bytes, method: str, sent: object) -> int:
        check_answer(response, content, method, sent)
        self.answers[response.status] += 1
        return response.status

    def close(self) -> None:
        """Of the connection."""
        self._connection.close()


def check_answer(answer: http.client.HTTPResponse, content: bytes, method: str, sent: object) -> None:
    """No failure of the server's, an id for every request, and a sentence for every refusal."""
    assert answer.status < 500, (answer.status, content, sent)
    assert re.fullmatch("[!-~]{1,128}", answer.getheader("x-request-id", "")), (answer.getheaders(), sent)
    if answer.status in _REFUSED and method != "HEAD":
        assert answer.getheader("content-type") == "application/json", (answer.status, content, sent)
        told = json.loads(content)["error"]
        assert len(told) > 10, (told, sent)
        assert "Traceback" not in told, (told, sent)
        assert 'File "' not in told, (told, sent)


def fuzz(predictor: Predictor, *, takes_images: bool, num_requests: int, derandomize: bool = True) -> Counter[int]:
    """Send about that many requests, before and after them a valid one of each form; the number of answers by status."""
    valid = make_valid_requests(predictor.name, takes_images=takes_images)
    with closing(Client(predictor)) as client:
        for sent in valid:
            assert client.send(sent) == 200, sent
        _run(mutated_requests(valid), client.send, num_requests, derandomize)
        several = st.lists(raw_requests(valid), min_size=_RAW_AT_ONCE, max_size=_RAW_AT_ONCE)
        _run(several, client.send_raw, ceil(num_requests / (_REQUESTS_PER_RAW * _RAW_AT_ONCE)), derandomize)
        for sent in valid:
            assert client.send(sent) == 200, sent
    assert predictor.process.poll() is None
    assert "Traceback" not in predictor.log
    return client.answers


def _run(strategy: st.SearchStrategy[Any], send: Callable[[Any], object], num_examples: int, derandomize: bool = True) -> None:
    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=(
            Phase.generate,
        ),  # a failure tells what was sent; made smaller, each try could wait for an answer that does not come
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(sent: Any) -> None:
        send(sent)

    run()


def fuzz_by_schema(
    predictor: Predictor,
    document: dict[str, Any],
    *,
    num_requests_each: int,
    derandomize: bool = True,
    headers: dict[str, str] | None = None,
) -> int:
    """Requests that schemathesis makes of the OpenAPI document, right and wrong, with `headers` too; how many were sent."""
    for path in document["paths"].values():  # a deadline of no time is answered with 504, rightly
        for operation in path.values():
            operation["parameters"] = [one for one in operation.get("parameters", []) if one["name"] != "x-timeout-seconds"]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            body.get("properties", {}).get("parameters", {}).get("properties", {}).pop("timeout", None)
    schema = schemathesis.openapi.from_dict(document)
    num_sent = 0
    checks = [
        schemathesis.checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_headers_conformance,
        openapi_checks.response_schema_conformance,
    ]
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            def send(case: schemathesis.Case) -> None:
                nonlocal num_sent
                num_sent += 1
                response = case.call(base_url=predictor.url, headers=headers, timeout=TIMEOUT_SECONDS)
                case.validate_response(response, checks=checks)

            num_requests = num_requests_each if operation.method == "post" else max(num_requests_each // 10, 2)
            with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parameters
                _run(operation.as_strategy(mode), send, num_requests, derandomize)
    return num_sent
