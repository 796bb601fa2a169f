"""The OpenAPI document of a predictor that lets not everybody in: it says who may ask, and how others are answered."""

import httpx
import pytest

from slipway.settings import child_environment
from tests.serving.conftest import StartPredictor
from tests.serving.fuzzing import fuzz_by_schema

TOKEN = "a-token-of-the-shop"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def read_document(url: str) -> dict:
    return httpx.get(f"{url}/openapi.json", headers=BEARER).raise_for_status().json()


def test_it_names_the_token_where_one_is_needed_and_only_there(start: StartPredictor, image_bundle, predictor):
    guarded = start(image_bundle.root, environment=child_environment(SLIPWAY_SERVING_TOKEN=TOKEN))
    document = read_document(guarded.url)
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"token": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            status = httpx.request(method, guarded.url + path).status_code
            assert (status == 401) is ("401" in operation["responses"]) is ("security" not in operation), (method, path)
    free = read_document(predictor.url)
    assert not {"components", "security"} & free.keys()
    assert not any("401" in operation["responses"] for path in free["paths"].values() for operation in path.values())


def test_it_names_what_else_turns_clients_away(start: StartPredictor, image_bundle, predictor):
    limited = read_document(start(image_bundle.root, "--requests-per-second", "1000").url)["paths"]
    free = read_document(predictor.url)["paths"]
    assert "429" in limited["/v2"]["get"]["responses"]
    assert "429" not in limited["/v2/health/ready"]["get"]["responses"]
    assert "429" not in free["/v2"]["get"]["responses"]
    for path, operations in free.items():
        for operation in operations.values():
            assert ("404" in operation["responses"]) is ("/models/model" in path)


def test_every_answer_in_it_names_its_request(start: StartPredictor, image_bundle):
    environment = child_environment(SLIPWAY_SERVING_TOKEN=TOKEN)
    guarded = start(image_bundle.root, "--requests-per-second", "1000", environment=environment)
    for path, operations in read_document(guarded.url)["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                assert response["headers"]["x-request-id"]["required"], (path, status)


def test_it_has_the_metrics_where_they_are_offered(start: StartPredictor, image_bundle, predictor):
    offered = read_document(predictor.url)["paths"]["/metrics"]["get"]
    for accept in ("text/plain", "application/openmetrics-text"):
        answer = httpx.get(f"{predictor.url}/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].partition(";")[0] in offered["responses"]["200"]["content"]
    without = start(image_bundle.root, "--no-metrics")
    assert "/metrics" not in read_document(without.url)["paths"]
    assert httpx.get(f"{without.url}/metrics").status_code == 404


@pytest.mark.parametrize("knows_token", [False, True])
def test_requests_made_of_it_get_the_answers_that_it_states(start: StartPredictor, image_bundle, knows_token):
    environment = child_environment(SLIPWAY_SERVING_TOKEN=TOKEN)
    guarded = start(image_bundle.root, "--no-open-metrics", environment=environment)
    headers = BEARER if knows_token else {}
    assert fuzz_by_schema(guarded, read_document(guarded.url), num_requests_each=20, headers=headers) > 20
