import time

import pytest

from slipway.deploy.slo import SloPolicy, count_allowed_slow, watch_slo
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


def test_answers_that_are_slow_are_refused(url, bundle):
    endpoint = Endpoint(url=url, model_name="colors", version="2", send=failing_every(0, delay=0.06))
    with pytest.raises(
        DeployError, match=r"99th percentile of \d+ answers was \d+ ms; accepted: 50 ms \(deploy.slo_latency_ms\)"
    ):
        watch_slo(endpoint, bundle, policy(max_latency_ms=50.0), tolerance=TOLERANCE)


def slow_at(*positions, seconds=0.7):
    """Asks the real predictor; the answers to these requests, counted from 1, come late."""
    count = 0

    def send(url, body=None, *, timeout_seconds=30.0):
        nonlocal count
        count += 1
        if count in positions:
            time.sleep(seconds)
        return request_json(url, body, timeout_seconds=timeout_seconds)

    return send


STRICT = {"max_latency_ms": 500.0}


@pytest.mark.parametrize(
    ("seconds", "position"), [(0.1, 1), (0.3, 2), (3.0, 7)], ids=["the only one", "one of few", "one of many"]
)
def test_one_slow_answer_is_borne_once_there_are_enough_others_to_judge_by(url, bundle, seconds, position):
    endpoint = Endpoint(url=url, model_name="colors", version="2", send=slow_at(position))
    result = watch_slo(endpoint, bundle, policy(seconds=seconds, **STRICT), tolerance=TOLERANCE)
    assert result.num_requests >= 20
    assert result.latency_ms < 500


@pytest.mark.parametrize(("seconds", "positions"), [(0.1, (1, 2)), (0.1, (1, 15)), (3.0, (3, 9))])
def test_a_second_slow_answer_ends_the_watch(url, bundle, seconds, positions):
    endpoint = Endpoint(url=url, model_name="colors", version="2", send=slow_at(*positions))
    with pytest.raises(DeployError, match=r"99th percentile of \d+ answers was .*deploy.slo_latency_ms.*that were 2"):
        watch_slo(endpoint, bundle, policy(seconds=seconds, **STRICT), tolerance=TOLERANCE)


def test_a_slow_answer_and_then_one_that_fails_prove_nothing_good(url, bundle):
    answers = iter(range(1, 100))

    def send(url, body=None, *, timeout_seconds=30.0):
        position = next(answers)
        if position == 6:
            raise ServerError("connection refused")
        time.sleep(0.7 if position == 1 else 0.0)
        return request_json(url, body, timeout_seconds=timeout_seconds)

    endpoint = Endpoint(url=url, model_name="colors", version="2", send=send)
    with pytest.raises(DeployError, match="99th percentile of 5 answers"):
        watch_slo(endpoint, bundle, policy(seconds=0.1, max_error_rate=1.0, **STRICT), tolerance=TOLERANCE)


@pytest.mark.parametrize(("num_answers", "allowed"), [(0, 0), (1, 0), (19, 0), (20, 1), (100, 1), (199, 1), (200, 2), (1000, 10)])
def test_one_answer_in_a_hundred_may_be_slow_and_none_of_very_few(num_answers, allowed):
    assert count_allowed_slow(num_answers) == allowed


def test_an_answer_is_waited_for_longer_than_a_lost_packet_takes_however_fast_the_model_should_be():
    assert policy(max_latency_ms=20.0).limit_seconds == 10.0
    assert policy(max_latency_ms=3000.0).limit_seconds == 30.0


def test_a_restart_ends_the_watch(url, bundle):
    def check_health():
        raise DeployError("colors was restarted: its container ended.")

    endpoint = Endpoint(url=url, model_name="colors", version="2", check_health=check_health)
    with pytest.raises(DeployError, match="was restarted"):
        watch_slo(endpoint, bundle, policy(), tolerance=TOLERANCE)
