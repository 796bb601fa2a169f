import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from slipway.serving.observe.metrics import Metrics
from slipway.serving.observe.payload_files import PayloadCounts
from tests.unit.serving.observe.exchanges import make_exchange, make_images


def read(metrics):
    text, _ = metrics.render()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def answer(metrics, model, *levels, **changes):
    inputs = make_images(*levels)
    exchange = make_exchange(num_samples=len(levels), **changes)
    outputs = model.engine.predict(inputs)
    metrics.observe(exchange, model, inputs, outputs)
    return outputs["probabilities"]


def test_requests_are_counted_by_protocol_and_status(slot, image_model):
    metrics = Metrics(slot)
    for _ in range(3):
        answer(metrics, image_model, 9)
    answer(metrics, image_model, 9, wire="grpc")
    metrics.observe(make_exchange(status=400), image_model, None, None)
    found = read(metrics)
    assert found["slipway_requests_total", ("protocol", "v2"), ("status", "200")] == 3
    assert found["slipway_requests_total", ("protocol", "v2"), ("status", "400")] == 1
    assert found["slipway_requests_total", ("protocol", "grpc"), ("status", "200")] == 1
    assert found["slipway_request_duration_seconds_count", ("protocol", "v2")] == 4
    assert found["slipway_inference_duration_seconds_count",] == 4


@pytest.mark.parametrize(("status", "reason"), [(503, "overload"), (504, "deadline"), (429, "rate")])
def test_a_refusal_because_of_load_is_counted_by_its_reason(slot, image_model, status, reason):
    metrics = Metrics(slot)
    assert read(metrics)["slipway_rejections_total", ("reason", reason)] == 0
    metrics.observe(make_exchange(status=status), image_model, None, None)
    assert read(metrics)["slipway_rejections_total", ("reason", reason)] == 1


def test_the_times_of_a_request_lie_in_their_buckets_and_add_up(slot, image_model):
    metrics = Metrics(slot)
    for seconds in (0.0004, 0.004, 0.004, 20.0):
        answer(metrics, image_model, 9, queue_seconds=seconds, batch_size=8)
    found = read(metrics)
    assert found["slipway_queue_duration_seconds_bucket", ("le", "0.0005")] == 1
    assert found["slipway_queue_duration_seconds_bucket", ("le", "0.003")] == 1
    assert found["slipway_queue_duration_seconds_bucket", ("le", "0.005")] == 3
    assert found["slipway_queue_duration_seconds_bucket", ("le", "10.0")] == 3
    assert found["slipway_queue_duration_seconds_bucket", ("le", "+Inf")] == 4
    assert found["slipway_queue_duration_seconds_sum",] == pytest.approx(20.0084)
    assert found["slipway_batch_size_bucket", ("le", "8.0")] == 4
    assert found["slipway_batch_size_sum",] == 32


@pytest.mark.parametrize("levels", [(0,), (0, 255, 0, 3)])
def test_samples_classes_and_confidences_are_those_of_the_answers(slot, image_model, levels):
    metrics = Metrics(slot)
    probabilities = answer(metrics, image_model, *levels)
    found = read(metrics)
    names = [image_model.info.class_names[best] for best in probabilities.argmax(axis=1)]
    assert found["slipway_samples_total",] == len(levels)
    for name in set(names):
        assert found["slipway_predictions_total", ("class", name)] == names.count(name)
    assert found["slipway_prediction_confidence_count",] == len(levels)
    assert found["slipway_prediction_confidence_sum",] == pytest.approx(float(probabilities.max(axis=1).sum()))
    below = int((probabilities.max(axis=1) <= 0.5).sum())
    assert found["slipway_prediction_confidence_bucket", ("le", "0.5")] == below


def test_no_more_classes_are_counted_by_themselves_than_allowed(slot, image_model):
    metrics = Metrics(slot, max_classes=1)
    for best in (0, 1, 2, 2):
        probabilities = np.full((1, 3), 0.1, np.float32)
        probabilities[0, best] = 0.8
        metrics.observe(make_exchange(), image_model, make_images(9), {"probabilities": probabilities})
    found = {key: value for key, value in read(metrics).items() if key[0] == "slipway_predictions_total"}
    assert found == {
        ("slipway_predictions_total", ("class", "dark")): 1,
        ("slipway_predictions_total", ("class", "other")): 3,
    }


def test_the_process_tells_its_model_and_whether_it_wants_requests(slot, image_model):
    metrics = Metrics(slot)
    metrics.watch(payload=PayloadCounts(num_written=4))
    metrics.count_reload("failed")
    slot.draining = True
    slot.num_in_flight = 5
    found = read(metrics)
    info = next(dict(key[1:]) for key in found if key[0] == "slipway_model_info")
    engine = image_model.engine.info
    assert (info["name"], info["version"], info["bundle_id"]) == ("colors", "7", image_model.info.bundle_id)
    assert (info["engine"], info["precision"]) == (engine.name, engine.precision)
    assert (found["slipway_ready",], found["slipway_draining",]) == (0, 1)
    assert found["slipway_requests_in_flight",] == 5
    assert found["slipway_payload_log_rows_total",] == 4
    assert found["slipway_payload_log_dropped_total", ("reason", "queue_full")] == 0
    assert found["slipway_reloads_total", ("outcome", "failed")] == 1
    assert found["process_resident_memory_bytes",] > 0


def test_openmetrics_is_spoken_where_it_is_asked_for(slot, image_model):
    metrics = Metrics(slot)
    answer(metrics, image_model, 9)
    text, media_type = metrics.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert media_type.startswith("application/openmetrics-text")
    families = {family.name: family.type for family in parse_openmetrics(text.decode())}
    assert families["slipway_requests"] == "counter"
    assert families["slipway_request_duration_seconds"] == "histogram"
    assert metrics.render()[1].startswith("text/plain")
