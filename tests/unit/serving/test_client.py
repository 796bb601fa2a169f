import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slipway.errors import RequestError, ServerError
from slipway.serving.client import predict_row, request_json

COLUMNS = [
    {"name": "age", "datatype": "FP32", "shape": [-1]},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
]
"""What a table's predictor says it takes."""


@pytest.fixture
def answering():
    """A server that gives one JSON answer to everything, and the bodies that it was sent."""
    servers = []

    def start(answer: object) -> tuple[str, list[bytes]]:
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", bodies

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def table(answering):
    return answering(
        {
            "inputs": COLUMNS,
            "parameters": {"task": "tabular-classification", "class_names": ["stays", "leaves"]},
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}],
        }
    )


def test_a_row_is_asked_by_its_columns_and_what_is_left_out_is_missing(table):
    url, bodies = table
    (answer,) = predict_row(url, "churn", {"age": "41"})
    assert (answer.label, answer.probability) == ("leaves", 0.75)
    assert [(entry["name"], entry["shape"], entry["data"]) for entry in json.loads(bodies[0])["inputs"]] == [
        ("age", [1], [41.0]),
        ("city", [1], [None]),
    ]


def test_an_integer_is_sent_to_its_last_digit(answering):
    url, bodies = answering(
        {
            "inputs": [{"name": "id", "datatype": "INT64", "shape": [-1]}],
            "parameters": {"task": "tabular-classification", "class_names": ["stays", "leaves"]},
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}],
        }
    )
    predict_row(url, "churn", {"id": "9007199254740993"})
    assert b"[9007199254740993]" in bodies[0]
    with pytest.raises(RequestError, match=r"Column 'id' is '7\.5'; accepted: an integer"):
        predict_row(url, "churn", {"id": "7.5"})


@pytest.mark.parametrize(
    ("row", "told"),
    [({"agee": "4"}, "no column 'agee'. Did you mean 'age'"), ({"age": "old"}, "accepted: a number"), ({"age": "inf"}, "number")],
)
def test_a_column_that_the_model_does_not_take_is_refused_before_it_is_sent(table, row, told):
    url, bodies = table
    with pytest.raises(RequestError, match=told):
        predict_row(url, "churn", row)
    assert not bodies


def test_a_row_is_no_question_for_a_model_of_images(answering):
    image = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    url, _ = answering({"inputs": [image], "parameters": {"task": "image-classification", "class_names": []}})
    with pytest.raises(RequestError, match="takes an image"):
        predict_row(url, "photos", {"age": "4"})


def test_another_server_is_told_from_a_predictor(answering):
    url, _ = answering({"status": "ok"})
    with pytest.raises(ServerError, match="not Slipway's predictor"):
        predict_row(url, "churn", {})


@pytest.mark.parametrize("url", ["http://[bad", "http://127.0.0.1:99999", "ftp://somewhere", "localhost:8080", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(RequestError, match="accepted: http://HOST:PORT"):
        request_json(url)
