"""A bounded part of what tests/soak/test_fuzz.py does at length: no failure of the server's, whatever is sent."""

from dataclasses import dataclass

import httpx
import pytest

from tests.bundles import write_table_bundle
from tests.serving.fuzzing import EVERY_STATUS, IMPATIENT, MIB, fuzz, fuzz_by_schema
from tests.serving.predictor import Predictor

NUM_REQUESTS = 1500
NUM_BY_SCHEMA = 40
WARM_UP_REQUESTS = 300
MAX_GROWTH_BYTES = 16 * MIB


@dataclass(frozen=True)
class Fuzzed:
    """A predictor that is impatient, and what it takes."""

    predictor: Predictor
    takes_images: bool


@pytest.fixture(scope="module", params=[True, False], ids=["images", "a table"])
def fuzzed(request, start_for_module, image_bundle, tmp_path_factory) -> Fuzzed:
    root = image_bundle.root
    if not request.param:
        root = tmp_path_factory.mktemp("table") / "bundle"
        write_table_bundle(root)
    return Fuzzed(start_for_module(root, *IMPATIENT), request.param)


def test_whatever_is_sent_is_answered_or_refused_and_leaves_nothing_behind(fuzzed):
    fuzz(fuzzed.predictor, takes_images=fuzzed.takes_images, num_requests=WARM_UP_REQUESTS)
    before = fuzzed.predictor.memory_bytes
    answers = fuzz(fuzzed.predictor, takes_images=fuzzed.takes_images, num_requests=NUM_REQUESTS)
    assert fuzzed.predictor.memory_bytes - before < MAX_GROWTH_BYTES
    assert answers.total() >= NUM_REQUESTS
    assert set(answers) >= EVERY_STATUS


def test_requests_made_of_the_openapi_document_get_the_answers_that_it_states(fuzzed):
    document = httpx.get(f"{fuzzed.predictor.url}/openapi.json").json()
    assert fuzz_by_schema(fuzzed.predictor, document, num_requests_each=NUM_BY_SCHEMA) > NUM_BY_SCHEMA
    assert httpx.get(f"{fuzzed.predictor.url}/v2/health/ready").status_code == 200
