import re
import subprocess
import sys
import time

import pytest

from slipway.errors import ConfigError
from slipway.serving.observe.tracing import Tracing, TracingOptions
from tests.unit.serving.observe.collector import run_collector
from tests.unit.serving.observe.exchanges import make_exchange, make_images

CLOSE_SECONDS = 20
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector():
    with run_collector() as running:
        yield running


def trace(collector, model, *exchanges, outputs=True, rate=1.0):
    tracing = Tracing(TracingOptions(endpoint=collector.url, rate=rate))
    inputs = make_images(3)
    for exchange in exchanges:
        tracing.begin(exchange)
        tracing.observe(exchange, model, inputs, model.engine.predict(inputs) if outputs else None)
    assert tracing.close(CLOSE_SECONDS)


def test_a_request_is_a_span_with_decoding_waiting_and_inference_at_their_true_times(collector, image_model):
    received_at = time.perf_counter() - 0.5
    epoch = time.time() - time.perf_counter()
    exchange = make_exchange(
        received_at=received_at,
        decoded_at=received_at + 0.1,
        decode_seconds=0.08,
        queue_seconds=0.2,
        inference_seconds=0.1,
        request_id="abc",
        num_samples=3,
    )
    trace(collector, image_model, exchange)
    names = [span.name for span in collector.spans]
    assert sorted(names) == ["decode", "infer colors", "inference", "queue"]
    request = collector.find("infer colors")
    assert request.kind == request.SPAN_KIND_SERVER
    for name, start, end in (("infer colors", 0, 0.5), ("decode", 0.02, 0.1), ("queue", 0.1, 0.3), ("inference", 0.3, 0.4)):
        span = collector.find(name)
        assert span.start_time_unix_nano / 1e9 - epoch - received_at == pytest.approx(start, abs=0.01)
        assert span.end_time_unix_nano / 1e9 - epoch - received_at >= end - 0.01
        assert name == "infer colors" or span.end_time_unix_nano / 1e9 - epoch - received_at == pytest.approx(end, abs=0.01)
        assert span.trace_id == request.trace_id
        assert name == "infer colors" or span.parent_span_id == request.span_id
    facts = {entry.key: entry.value.string_value or entry.value.int_value for entry in request.attributes}
    assert facts["slipway.request_id"] == "abc"
    assert (facts["slipway.model"], facts["slipway.version"], facts["slipway.num_samples"]) == ("colors", "7", 3)
    assert facts["http.response.status_code"] == 200
    resource = {entry.key: entry.value.string_value for entry in collector.resources[0].attributes}
    assert resource["service.name"] == "slipway"


def test_a_clients_trace_goes_on_in_the_answers_traceparent(collector, image_model):
    exchange = make_exchange(traceparent=CLIENT)
    trace(collector, image_model, exchange)
    request = collector.find("infer colors")
    assert request.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert exchange.trace.traceparent == f"00-{request.trace_id.hex()}-{request.span_id.hex()}-01"


def test_a_client_that_does_not_sample_its_trace_is_not_traced(collector, image_model):
    exchange = make_exchange(traceparent=CLIENT[:-1] + "0")
    trace(collector, image_model, exchange)
    assert collector.spans == []
    assert re.fullmatch("00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00", exchange.trace.traceparent)


@pytest.mark.parametrize("header", ["", "nonsense", "ff" + CLIENT[2:], "00-" + "0" * 32 + CLIENT[35:], CLIENT.upper()])
def test_without_a_valid_trace_context_a_trace_begins_here(collector, image_model, header):
    exchange = make_exchange(traceparent=header)
    trace(collector, image_model, exchange)
    request = collector.find("infer colors")
    assert request.parent_span_id == b""
    assert exchange.trace.traceparent == f"00-{request.trace_id.hex()}-{request.span_id.hex()}-01"


def test_about_the_share_of_new_traces_that_was_asked_for_is_sent(collector, image_model):
    exchanges = [make_exchange() for _ in range(400)]
    trace(collector, image_model, *exchanges, outputs=False, rate=0.25)
    assert 60 < len(collector.spans) < 145
    assert len(collector.spans) == sum(exchange.trace.is_sampled for exchange in exchanges)


def test_a_failure_of_the_server_marks_its_span_and_a_refusal_does_not(collector, image_model):
    trace(collector, image_model, make_exchange(status=500), make_exchange(status=400), outputs=False)
    by_status = {span.attributes[0].value.int_value: span.status for span in collector.spans}
    assert by_status[500].code == by_status[500].STATUS_CODE_ERROR
    assert by_status[400].code == by_status[400].STATUS_CODE_UNSET


def test_a_collector_that_is_not_there_holds_up_nothing_and_is_said_in_the_log(image_model, collector, events):
    collector.status = 400
    tracing = Tracing(TracingOptions(endpoint=collector.url))
    begun = time.perf_counter()
    for _ in range(200):
        exchange = make_exchange()
        tracing.begin(exchange)
        tracing.observe(exchange, image_model, None, None)
    assert time.perf_counter() - begun < 5
    assert tracing.close(CLOSE_SECONDS)
    assert [line["event"] for line in events] == ["traces_not_sent"]


def test_opentelemetry_is_not_loaded_unless_traces_are_wanted():
    program = "import sys, slipway.serving.observe.observers; print('opentelemetry' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="accepted: http://HOST:4318"):
        TracingOptions(endpoint="collector:4318")
