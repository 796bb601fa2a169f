import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus

import pytest
import structlog

from slipway.serving.observe.access_log import AccessLog
from tests.unit.serving.observe.exchanges import make_exchange

CLOSE_SECONDS = 20
SLOW_SECONDS = 60.0
"""No request gets so old by itself here, however slow the machine."""


@pytest.fixture
def log(events):
    """Logs exchanges with given options, and gives the lines that came of them."""

    def write(model, *exchanges, rate):
        access_log = AccessLog(rate=rate, slow_seconds=SLOW_SECONDS)
        access_log.start()
        for exchange in exchanges:
            access_log.observe(exchange, model, None, None)
        assert access_log.close(CLOSE_SECONDS)
        return events

    return write


class HeldLog:
    """A log of which each line has to be let through."""

    def __init__(self):
        self.allowed = threading.Semaphore(0)
        self.is_over = False

    def write(self, _logger, _method, _line):
        while not self.is_over and not self.allowed.acquire(timeout=0.05):
            pass
        raise structlog.DropEvent

    @contextmanager
    def written_after(self, seconds):
        timer = threading.Timer(seconds, self.allowed.release)
        timer.start()
        yield
        timer.join()


@pytest.fixture
def held_log():
    held, before = HeldLog(), structlog.get_config()["processors"]
    structlog.configure(processors=[held.write])
    yield held
    held.is_over = True
    structlog.configure(processors=before)


def test_a_line_says_who_asked_what_came_of_it_and_where_the_time_went(log, image_model):
    (line,) = log(image_model, make_exchange(request_id="abc", status=200), rate=1.0)
    expected = {"event": "request", "request_id": "abc", "protocol": "v2", "status": 200, "model": "colors", "version": "7"}
    assert expected.items() <= line.items()
    assert (line["decode_ms"], line["queue_ms"], line["inference_ms"]) == (1.0, 2.0, 4.0)
    assert line["total_ms"] > 0


def test_failures_and_slow_requests_are_logged_whatever_the_share(log, image_model):
    lines = log(
        image_model,
        make_exchange(request_id="well"),
        make_exchange(request_id="refused", status=HTTPStatus.BAD_REQUEST),
        make_exchange(request_id="failed", status=500),
        make_exchange(request_id="slow", received_at=time.perf_counter() - 2 * SLOW_SECONDS),
        rate=0.0,
    )
    assert [line["request_id"] for line in lines] == ["refused", "failed", "slow"]
    assert repr(lines[0]["status"]) == "400"


def test_about_the_share_that_was_asked_for_is_logged(log, image_model):
    lines = log(image_model, *[make_exchange() for _ in range(2000)], rate=0.25)
    assert 350 < len(lines) < 650


def test_a_request_id_cannot_pass_for_a_line_of_its_own(log, image_model):
    (line,) = log(image_model, make_exchange(request_id="a\nrequest status=200 " + "x" * 1000), rate=1.0)
    assert line["request_id"].startswith("a\\nrequest")
    assert len(line["request_id"]) < 200


def test_a_log_that_nobody_reads_holds_up_no_request(tmp_path):
    program = """
import sys, time
from pathlib import Path
from slipway.log import configure_logging
from slipway.serving.inference.model import load_model
from slipway.serving.observe.access_log import AccessLog
from tests.bundles import write_image_bundle
from tests.unit.serving.observe.exchanges import make_exchange

configure_logging("json")
root = Path(sys.argv[1])
write_image_bundle(root)
model = load_model(root, name="colors", version="7")
log = AccessLog(rate=1.0, slow_seconds=1.0)
log.start()
for _ in range(20_000):
    log.observe(make_exchange(), model, None, None)
print(log.num_dropped, log.close(0.1), flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            num_dropped, closed = process.stdout.readline().split()
        finally:
            process.kill()
    assert int(num_dropped) > 0
    assert closed == "False"


def test_those_who_may_not_ask_are_logged_but_cannot_fill_the_log(events):
    num_refused = 5000
    access_log = AccessLog(rate=0.0, slow_seconds=1.0)
    access_log.start()
    begun = time.monotonic()
    for _ in range(num_refused):
        access_log.observe_refusal(401, request_id="abc", address="192.0.2.7")
    num_seconds = int(time.monotonic() - begun) + 1
    assert access_log.close(CLOSE_SECONDS)
    lines = [line for line in events if line["event"] == "request_refused"]
    assert (lines[0]["request_id"], lines[0]["status"], lines[0]["address"]) == ("abc", 401, "192.0.2.7")
    assert 100 <= len(lines) <= 100 * num_seconds
    assert access_log.num_dropped == num_refused - len(lines)


def test_closing_waits_no_longer_than_it_is_told_to_in_all(image_model, held_log):
    access_log = AccessLog(rate=1.0, slow_seconds=1.0)
    access_log.start()
    while not access_log.num_dropped:
        access_log.observe(make_exchange(), image_model, None, None)
    with held_log.written_after(1.5):  # one line: there is room for the order to end, which is not come to before the time is up
        begun = time.monotonic()
        assert not access_log.close(2.0)
        assert time.monotonic() - begun < 3.0
    held_log.is_over = True
    assert access_log.close(CLOSE_SECONDS)
