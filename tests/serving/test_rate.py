"""How often an address may ask."""

import httpx

from slipway.serving.process.access import Rate
from slipway.serving.process.options import AccessOptions
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import PROBES


def test_an_address_may_ask_so_often_and_no_more():
    now = [100.0]
    rate = Rate(AccessOptions(requests_per_second=2, burst=3), clock=lambda: now[0])
    assert [rate.find_refusal("10.0.0.1") is None for _ in range(4)] == [True, True, True, False]
    refused = rate.find_refusal("10.0.0.1")
    assert refused is not None
    assert (refused.status, refused.headers) == (429, ((b"retry-after", b"1"),))
    assert rate.find_refusal("10.0.0.2") is None  # each for itself
    now[0] += 0.5
    assert rate.find_refusal("10.0.0.1") is None
    assert rate.find_refusal("10.0.0.1") is not None
    now[0] += 3600
    assert [rate.find_refusal("10.0.0.1") is None for _ in range(4)] == [True, True, True, False]


def test_a_client_with_a_network_of_its_own_is_one_client_and_many_clients_take_no_more_room():
    rate = Rate(AccessOptions(requests_per_second=1), clock=lambda: 0.0)
    assert rate.find_refusal("2001:db8::1") is None
    assert rate.find_refusal("2001:db8::ffff:2") is not None
    assert rate.find_refusal("2001:db8:0:1::1") is None
    assert rate.find_refusal("10.1.2.3") is None
    assert rate.find_refusal("::ffff:10.1.2.3") is not None
    for number in range(30_000):
        rate.find_refusal(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(rate._buckets) == 10_000


def test_the_rate_holds_over_http_and_probes_do_not_count(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, "--requests-per-second", "0.01", "--burst", "2")
    for path in PROBES * 5:
        assert httpx.get(predictor.url + path).status_code == 200
    statuses = [httpx.get(f"{predictor.url}/v2").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = httpx.get(f"{predictor.url}/v2")
    assert int(refused.headers["retry-after"]) > 10
    assert "0.01 requests a second" in refused.json()["error"]
