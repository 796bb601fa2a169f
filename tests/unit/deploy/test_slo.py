import time

import pytest

from slipway.deploy.slo import SloPolicy, watch_slo
from slipway.deploy.target import Endpoint
from slipway.errors import DeployError, ServerError
from slipway.export.bundle import read_bundle
from slipway.serving.client import request_json

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def bundle(write_image_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("slo") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


@pytest.fixture(scope="module")
def url(run_predictor, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    with run_predictor(folder, "--bundle", str(bundle.root), "--name", "colors", "--version", "2") as running:
        yield running.url


def policy(**changes):
    return SloPolicy(**{"seconds": 1.0, "max_error_rate": 0.0, "max_latency_ms": 2000.0, **changes})


def failing_every(number, delay=0.0):
    """Asks the real predictor, but not each time."""
    count = 0

    def send(url, body=None, *, timeout_seconds=30.0):
        nonlocal count
        count += 1
        time.sleep(delay)
        if number and count % number == 0:
            raise ServerError("connection refused")
        return request_json(url, body, timeout_seconds=timeout_seconds)

    return send


def test_a_version_that_answers_is_let_be(url, bundle):
    endpoint = Endpoint(url=url, model_name="colors", version="2")
    result = watch_slo(endpoint, bundle, policy(), tolerance=TOLERANCE)
    assert (result.error_rate, 5 <= result.num_requests <= 10, 0 < result.latency_ms < 2000) == (0.0, True, True)


def test_requests_that_fail_end_the_watch_as_soon_as_there_are_too_many(url, bundle):
    endpoint = Endpoint(url=url, model_name="colors", version="2", send=failing_every(2))
    begun = time.monotonic()
    with pytest.raises(DeployError, match=r"1 of 2 requests failed .*deploy.slo_error_rate 0\).*connection refused"):
        watch_slo(endpoint, bundle, policy(seconds=30.0), tolerance=TOLERANCE)
    assert time.monotonic() - begun < 5
    result = watch_slo(endpoint, bundle, policy(max_error_rate=0.6), tolerance=TOLERANCE)
    assert result.error_rate == pytest.approx(0.5, abs=0.2)


def test_answers_of_another_version_are_errors(url, bundle):
    endpoint = Endpoint(url=url, model_name="colors", version="3")
    with pytest.raises(DeployError, match="Version '3' of colors is not served here"):
        watch_slo(endpoint, bundle, policy(), tolerance=TOLERANCE)


def test_answers_that_are_slow_are_refused_at_the_end(url, bundle):
    endpoint = Endpoint(url=url, model_name="colors", version="2", send=failing_every(0, delay=0.06))
    with pytest.raises(
        DeployError, match=r"99th percentile of \d+ answers was \d+ ms; accepted: 50 ms \(deploy.slo_latency_ms\)"
    ):
        watch_slo(endpoint, bundle, policy(max_latency_ms=50.0), tolerance=TOLERANCE)


def test_a_restart_ends_the_watch(url, bundle):
    def check_health():
        raise DeployError("colors was restarted: its container ended.")

    endpoint = Endpoint(url=url, model_name="colors", version="2", check_health=check_health)
    with pytest.raises(DeployError, match="was restarted"):
        watch_slo(endpoint, bundle, policy(), tolerance=TOLERANCE)
