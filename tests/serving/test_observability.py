"""What a running predictor tells of itself and of what it was asked."""

import json
import re
import signal
import socket
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from slipway.serving.wire.v2 import write_request
from slipway.settings import child_environment
from tests.unit.serving.observe.collector import run_collector

DOCS = Path(__file__).parents[2] / "docs" / "predictor.md"
CLIENT_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def read_metrics(predictor):
    text = httpx.get(f"{predictor.url}/metrics").text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(predictor, bundle, level=9, num_samples=1, **headers):
    images = {"image": np.full((num_samples, 4, 4, 3), level, np.uint8)}
    return httpx.post(predictor.infer_url, content=write_request(images, bundle.info.signature), headers=headers)


def wait_for_lines(predictor, num_lines, event="request"):
    deadline = time.monotonic() + 20
    while len(found := [line for line in map(json.loads, predictor.log.splitlines()) if line["event"] == event]) < num_lines:
        assert time.monotonic() < deadline, predictor.log
        time.sleep(0.02)
    return found


def test_the_figures_are_those_of_what_was_asked(start, image_bundle):
    predictor = start(image_bundle.root)
    for _ in range(3):
        assert ask(predictor, image_bundle, num_samples=2).status_code == 200
    assert httpx.post(predictor.infer_url, content=b"{}").status_code == 400
    instances = {"instances": np.zeros((1, 2, 2, 3), int).tolist()}
    assert httpx.post(f"{predictor.url}/v1/models/{predictor.name}:predict", json=instances).status_code == 200
    found = read_metrics(predictor)
    assert found["slipway_requests_total", ("protocol", "v2"), ("status", "200")] == 3
    assert found["slipway_requests_total", ("protocol", "v2"), ("status", "400")] == 1
    assert found["slipway_requests_total", ("protocol", "v1"), ("status", "200")] == 1
    assert found["slipway_request_duration_seconds_count", ("protocol", "v2")] == 4
    assert found["slipway_samples_total",] == 7
    assert sum(value for key, value in found.items() if key[0] == "slipway_predictions_total") == 7
    assert found["slipway_prediction_confidence_count",] == 7
    for stage in ("decode", "queue", "inference"):
        assert found[f"slipway_{stage}_duration_seconds_count",] == 4
    assert found["slipway_batch_size_sum",] == 7
    assert found["slipway_inference_duration_seconds_sum",] > 0
    assert found["slipway_decode_duration_seconds_sum",] > 0
    assert (found["slipway_ready",], found["slipway_requests_in_flight",]) == (1, 0)
    info = next(dict(key[1:]) for key in found if key[0] == "slipway_model_info")
    assert info["bundle_id"] == image_bundle.info.bundle_id


def test_what_is_turned_away_before_it_is_read_is_counted_by_its_reason(start, image_bundle):
    environment = child_environment(SLIPWAY_SERVING_TOKEN="a-secret-token-for-tests")
    predictor = start(image_bundle.root, environment=environment)
    assert ask(predictor, image_bundle).status_code == 401
    assert read_metrics(predictor)["slipway_rejections_total", ("reason", "access")] == 1


def test_what_is_turned_away_for_its_head_its_pace_or_want_of_room_is_counted_by_its_reason(start, image_bundle):
    limits = ("--head-seconds", "0.3", "--max-connections", "2")
    predictor = start(image_bundle.root, *limits)
    for sent, reason in (
        (b"no HTTP\r\n\r\n", "not_http"),
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", "head"),
        (b"GET /v2 HTTP/1.1\r\n", "slow"),
    ):
        with socket.create_connection(("127.0.0.1", predictor.port), timeout=20) as connection:
            connection.sendall(sent)
            assert b"error" in connection.recv(65536)
        assert read_metrics(predictor)["slipway_rejections_total", ("reason", reason)] == 1
    begun = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    with ExitStack() as stack:
        address = ("127.0.0.1", predictor.port)
        busy = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(2)]
        for connection in busy:
            connection.sendall(begun)
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")  # its head is read: it does not rest
        assert httpx.get(f"{predictor.url}/v2/health/live").status_code == 200
        assert httpx.get(f"{predictor.url}/v2").status_code == 503
        for connection in busy:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(65536) == b""  # the server has seen it leave
    assert read_metrics(predictor)["slipway_rejections_total", ("reason", "overload")] == 1


def test_openmetrics_is_answered_to_a_scraper_that_asks_for_it(predictor):
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    answer = httpx.get(f"{predictor.url}/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "slipway_requests" in {family.name for family in parse_openmetrics(answer.text)}


def test_the_documented_metrics_are_those_that_are_exported(start, image_bundle, tmp_path):
    predictor = start(image_bundle.root, "--payload-log", str(tmp_path))
    ask(predictor, image_bundle)
    text = httpx.get(f"{predictor.url}/metrics").text
    exported = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, tuple(sorted(label_names(family))))
        for family in text_string_to_metric_families(text)
        if family.name.startswith("slipway_")
    }
    rows = re.findall(r"^\| `(slipway_\w+)` \| (\w+) \|([^|]*)\|", DOCS.read_text(), re.MULTILINE)
    documented = {(name, kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}
    assert documented == exported


def label_names(family):
    return {name for sample in family.samples for name in sample.labels if name != "le"}


def test_the_access_log_tells_failures_always_and_holds_neither_body_nor_token(start, image_bundle):
    environment = child_environment(SLIPWAY_SERVING_TOKEN="a-secret-token-for-tests", SLIPWAY_LOG_FORMAT="json")
    predictor = start(image_bundle.root, "--access-log", "1.0", environment=environment)
    ask(predictor, image_bundle, level=137, authorization="Bearer a-secret-token-for-tests", **{"x-request-id": "well"})
    refused = {"authorization": "Bearer a-secret-token-for-tests", "x-request-id": "refused"}
    httpx.post(predictor.infer_url, content=b'{"inputs": "what-was-sent"}', headers=refused)
    lines = {line["request_id"]: line for line in wait_for_lines(predictor, 2)}
    assert (lines["well"]["status"], lines["refused"]["status"]) == (200, 400)
    assert lines["well"]["inference_ms"] > 0
    for secret in ("a-secret-token-for-tests", "what-was-sent", "137"):
        assert secret not in "".join(map(json.dumps, lines.values()))


def test_the_access_log_tells_who_came_with_a_wrong_token_but_not_the_token(start, image_bundle):
    environment = child_environment(SLIPWAY_SERVING_TOKEN="a-secret-token-for-tests", SLIPWAY_LOG_FORMAT="json")
    predictor = start(image_bundle.root, "--access-log", "0.01", environment=environment)
    assert ask(predictor, image_bundle, authorization="Bearer a-guess-at-the-token").status_code == 401
    (line,) = wait_for_lines(predictor, 1, event="request_refused")
    assert (line["status"], line["address"]) == (401, "127.0.0.1")
    assert "a-guess" not in predictor.log


def test_a_request_is_traced_from_its_client_through_decoding_waiting_and_inference(start, image_bundle):
    with run_collector() as collector:
        predictor = start(image_bundle.root, "--tracing-endpoint", collector.url)
        answer = ask(predictor, image_bundle, traceparent=CLIENT_TRACE)
        predictor.terminate()
        assert predictor.wait() == 0
    request = collector.find("infer ")
    assert answer.headers["traceparent"] == f"00-{request.trace_id.hex()}-{request.span_id.hex()}-01"
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == tuple(CLIENT_TRACE.split("-")[1:3])
    decode, queue, inference = (collector.find(name) for name in ("decode", "queue", "inference"))
    assert {span.parent_span_id for span in (decode, queue, inference)} == {request.span_id}
    moments = [
        request.start_time_unix_nano,
        decode.start_time_unix_nano,
        decode.end_time_unix_nano,
        queue.end_time_unix_nano,
        inference.end_time_unix_nano,
        request.end_time_unix_nano,
    ]
    tolerance = 100_000  # between the readings of two clocks
    assert all(earlier <= later + tolerance for earlier, later in pairwise(moments))
    assert inference.end_time_unix_nano > inference.start_time_unix_nano


def test_without_tracing_an_answer_names_no_trace(predictor, image_bundle):
    assert "traceparent" not in ask(predictor, image_bundle, traceparent=CLIENT_TRACE).headers


@pytest.mark.parametrize("num_requests", [25])
def test_what_was_asked_before_sigterm_stands_in_the_payload_log(start, image_bundle, tmp_path, num_requests):
    predictor = start(image_bundle.root, "--payload-log", str(tmp_path), "--payload-share", "1")
    answers = [
        ask(predictor, image_bundle, level=level, **{"x-request-id": f"r-{level}"}).json() for level in range(num_requests)
    ]
    predictor.process.send_signal(signal.SIGTERM)
    assert predictor.wait() == 0
    (path,) = (tmp_path / predictor.name).iterdir()
    rows = pq.read_table(path).to_pylist()
    assert [row["request_id"] for row in rows] == [f"r-{level}" for level in range(num_requests)]
    assert [row["input.image.mean_0"] for row in rows] == list(range(num_requests))
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(row["probabilities"], answer["outputs"][0]["data"], rtol=1e-6)
        assert row["probability"] == max(row["probabilities"])


def test_a_payload_log_that_cannot_be_written_fails_no_answer(start, image_bundle, tmp_path):
    (tmp_path / "file").write_text("no folder")
    arguments = ("--payload-log", str(tmp_path / "file"), "--payload-share", "1", "--payload-flush-seconds", "0.01")
    predictor = start(image_bundle.root, *arguments)
    deadline = time.monotonic() + 20
    while read_metrics(predictor)["slipway_payload_log_dropped_total", ("reason", "write_failed")] < 3:
        assert ask(predictor, image_bundle).status_code == 200
        assert time.monotonic() < deadline
    assert predictor.log.count("payload_rows_dropped") == 1
