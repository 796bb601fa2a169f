"""A bounded part of what tests/soak/test_fuzz.py does at length: no failure of the server's, whatever is sent."""

import httpx
import pytest

from slipway.export.bundle import read_bundle
from tests.bundles import write_table_bundle
from tests.serving.fuzzing import MIB, fuzz, fuzz_by_schema

NUM_REQUESTS = 1500
NUM_BY_SCHEMA = 40
MAX_GROWTH_BYTES = 96 * MIB


@pytest.fixture(scope="module")
def table(start_for_module, tmp_path_factory):
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    return start_for_module(read_bundle(root).root)


@pytest.mark.parametrize("takes_images", [True, False])
def test_whatever_is_sent_is_answered_or_refused_and_leaves_nothing_behind(predictor, table, takes_images):
    running = predictor if takes_images else table
    assert fuzz(running, takes_images=takes_images, num_requests=NUM_REQUESTS) < MAX_GROWTH_BYTES


@pytest.mark.parametrize("takes_images", [True, False])
def test_requests_made_of_the_openapi_document_get_the_answers_that_it_states(predictor, table, takes_images):
    running = predictor if takes_images else table
    document = httpx.get(f"{running.url}/openapi.json").json()
    assert fuzz_by_schema(running, document, num_requests_each=NUM_BY_SCHEMA) > NUM_BY_SCHEMA
    assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
