import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import httpx
import numpy as np
import pytest

from slipway.export.bundle import Bundle
from slipway.serving.wire.v2 import write_request
from tests.serving.predictor import Predictor

WAIT_SECONDS = 30
NUM_CLIENTS = 24
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 500, 500, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def narrow(start_for_module, image_bundle) -> Predictor:
    """Lets little wait."""
    return start_for_module(image_bundle.root, "--max-batch-size", "4", "--max-queue-samples", "8", "--threads", "1")


def binary_request(pixels: np.ndarray) -> tuple[bytes, dict[str, str]]:
    shape = ", ".join(map(str, pixels.shape))
    tensor = (
        f'{{"name": "image", "datatype": "UINT8", "shape": [{shape}], "parameters": {{"binary_data_size": {pixels.nbytes}}}}}'
    )
    header = f'{{"inputs": [{tensor}]}}'.encode()
    return header + pixels.tobytes(), {"inference-header-content-length": str(len(header))}


def ask_at_once(predictor: Predictor, **headers: str) -> list[httpx.Response]:
    body, length = binary_request(PIXELS)

    def ask(_: int) -> list[httpx.Response]:
        with httpx.Client(timeout=WAIT_SECONDS) as client:
            return [client.post(predictor.infer_url, content=body, headers={**length, **headers}) for _ in range(4)]

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        return [answer for answers in pool.map(ask, range(NUM_CLIENTS)) for answer in answers]


def test_more_than_may_wait_is_refused_with_the_time_to_come_back_and_the_rest_is_answered(narrow):
    answers = ask_at_once(narrow)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert "wait for the model already" in answer.json()["error"]
        else:
            assert answer.json()["outputs"][0]["shape"] == [4, 3]
    assert len({str(answer.json()["outputs"][0]["data"]) for answer in answers if answer.status_code == 200}) == 1


def test_a_request_whose_time_is_over_gets_504(narrow):
    statuses = {answer.status_code for answer in ask_at_once(narrow, **{"x-timeout-seconds": "0.001"})}
    assert 504 in statuses
    assert statuses <= {200, 503, 504}


def test_probes_are_answered_under_full_load_before_the_predictions_that_wait(predictor, image_bundle):
    num_clients = 12
    body, length = binary_request(PIXELS)
    ending = threading.Event()
    answered: list[int] = []

    def keep_asking(number: int) -> None:
        with httpx.Client(timeout=WAIT_SECONDS) as client:
            while not ending.is_set():
                assert client.post(predictor.infer_url, content=body, headers=length).status_code == 200
                answered.append(number)

    with ThreadPoolExecutor(num_clients) as pool:
        load = [pool.submit(keep_asking, number) for number in range(num_clients)]
        overtaken_by = []
        try:
            with httpx.Client(timeout=WAIT_SECONDS) as client:
                for path in 10 * ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready"):
                    num_before = len(answered)
                    assert client.get(predictor.url + path).status_code == 200
                    overtaken_by.append(len(answered) - num_before)
        finally:
            ending.set()
        for task in load:
            task.result()
    assert set(answered) == set(range(num_clients))
    assert median(overtaken_by) <= num_clients / 4  # a prediction, which waits its turn, is overtaken by all the others


def test_answers_are_those_of_a_lone_request_whoever_asks_beside(predictor, image_bundle: Bundle):
    examples = image_bundle.golden
    bodies = [write_request(example.inputs, image_bundle.info.signature) for example in examples]

    def ask(number: int) -> None:
        with httpx.Client(timeout=WAIT_SECONDS) as client:
            for turn in range(40):
                which = (number + turn) % len(examples)
                answer = client.post(predictor.infer_url, content=bodies[which]).json()
                np.testing.assert_allclose(
                    answer["outputs"][0]["data"], examples[which].outputs["probabilities"].ravel(), atol=1e-5
                )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
