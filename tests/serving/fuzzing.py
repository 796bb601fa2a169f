"""Odd requests sent to a predictor, and what must hold of the answer to each."""

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks as openapi_checks

from tests.serving.odd_requests import Sent, make_valid_requests, mutated_requests, raw_requests
from tests.serving.predictor import Predictor

MIB = 2**20
WARM_UP_REQUESTS = 300
TIMEOUT_SECONDS = 30
_REFUSED = range(400, 500)


class Client:
    """One connection at a time; looks at every answer."""

    def __init__(self, predictor: Predictor) -> None:
        self.num_requests = 0
        self._predictor = predictor
        self._connection = self._connect()

    def send(self, sent: Sent) -> int:
        """The status, after checks of what must hold of any answer."""
        self.num_requests += 1
        try:
            self._connection.putrequest(sent.method, sent.path, skip_accept_encoding=True)
            for name, value in sent.headers:
                self._connection.putheader(name, value.encode("latin-1", "replace"))
            self._connection.putheader("content-length", str(len(sent.body)))
            self._connection.endheaders(sent.body)
            response = self._connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            self._connection = self._connect()
            if isinstance(error, TimeoutError):
                raise AssertionError(f"no answer to {sent}") from error
            return 0  # refused as HTTP, with the connection
        check_answer(response.status, response.getheader("content-type"), content, sent)
        if response.will_close:
            self._connection.close()
        return response.status

    def send_raw(self, data: bytes) -> None:
        """Bytes that are hardly HTTP: whatever comes back, it is no failure of the server's."""
        self.num_requests += 1
        with socket.create_connection(("127.0.0.1", self._predictor.port), timeout=TIMEOUT_SECONDS) as connection:
            with suppress(OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answer += piece
        assert not answer or int(answer.split(b" ", 2)[1]) < 500, (data, answer)

    def close(self) -> None:
        """Of the connection."""
        self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._predictor.port, timeout=TIMEOUT_SECONDS)


def check_answer(status: int, media_type: str | None, content: bytes, sent: object) -> None:
    """No failure of the server's, and a sentence for every refusal."""
    assert status < 500, (status, content, sent)
    if status in _REFUSED and content:
        assert media_type == "application/json", (status, content, sent)
        told = json.loads(content)["error"]
        assert len(told) > 10, (told, sent)
        assert "Traceback" not in told, (told, sent)
        assert 'File "' not in told, (told, sent)


def fuzz(predictor: Predictor, *, takes_images: bool, num_requests: int, derandomize: bool = True) -> int:
    """Send about that many requests; how many bytes of memory the process has grown by since the first few hundred."""
    valid = make_valid_requests(predictor.name, takes_images=takes_images)
    client = Client(predictor)
    for sent in valid:
        assert client.send(sent) == 200, sent
    _run(mutated_requests(valid), client.send, WARM_UP_REQUESTS, derandomize)
    before = predictor.memory_bytes
    _run(mutated_requests(valid), client.send, num_requests, derandomize)
    _run(raw_requests(valid), client.send_raw, num_requests // 20, derandomize)
    for sent in valid:
        assert client.send(sent) == 200, sent
    client.close()
    assert predictor.process.poll() is None
    return predictor.memory_bytes - before


def _run(strategy: st.SearchStrategy[Any], send: Callable[[Any], object], num_examples: int, derandomize: bool = True) -> None:
    @settings(
        max_examples=num_examples, deadline=None, database=None, derandomize=derandomize, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def run(sent: Any) -> None:
        send(sent)

    run()


def fuzz_by_schema(predictor: Predictor, document: dict[str, Any], *, num_requests_each: int, derandomize: bool = True) -> int:
    """Requests that schemathesis makes of the OpenAPI document, right and wrong; how many were sent."""
    for path in document["paths"].values():  # a deadline of no time is answered with 504, rightly
        for operation in path.values():
            operation["parameters"] = [one for one in operation.get("parameters", []) if one["name"] != "x-timeout-seconds"]
    schema = schemathesis.openapi.from_dict(document)
    num_sent = 0
    checks = [
        schemathesis.checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_schema_conformance,
    ]
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            def send(case: schemathesis.Case) -> None:
                nonlocal num_sent
                num_sent += 1
                response = case.call(base_url=predictor.url, timeout=TIMEOUT_SECONDS)
                case.validate_response(response, checks=checks)

            num_requests = num_requests_each if operation.method == "post" else max(num_requests_each // 10, 2)
            with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parameters
                _run(operation.as_strategy(mode), send, num_requests, derandomize)
    return num_sent
