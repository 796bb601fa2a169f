"""Tens of thousands of requests that are nearly right: each is answered, the server does not fail, and it does not grow."""

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.bundles import write_image_bundle, write_table_bundle
from tests.serving.fuzzing import EVERY_STATUS, IMPATIENT, fuzz, fuzz_by_schema
from tests.serving.predictor import start_predictor
from tests.soak.growth import Growth, Holding

NUM_REQUESTS = 30_000
ROUND_REQUESTS = 1_000
ROUND_BY_SCHEMA = 10
"""Of each kind, in a round."""
WARM_UP_ROUNDS = 6
MAX_GROWTH = Growth(memory_mib=4.0, files=2, threads=0)
"""After the warm-up it is 1 MiB at most; a kibibyte kept of each request would make it 17."""


@pytest.mark.parametrize("takes_images", [True, False])
def test_tens_of_thousands_of_requests_meet_no_failure_and_leave_nothing_behind(
    tmp_path: Path, soak_seconds: float, takes_images: bool
) -> None:
    write = write_image_bundle if takes_images else write_table_bundle
    write(tmp_path / "bundle")
    predictor = start_predictor(tmp_path / "bundle", *IMPATIENT, folder=tmp_path)
    ends_at = time.monotonic() + soak_seconds
    answers: Counter[int] = Counter()
    holdings: list[Holding] = []
    try:
        document = httpx.get(f"{predictor.url}/openapi.json").json()
        while answers.total() < NUM_REQUESTS or time.monotonic() < ends_at:
            answers += fuzz(predictor, takes_images=takes_images, num_requests=ROUND_REQUESTS, derandomize=False)
            fuzz_by_schema(predictor, document, num_requests_each=ROUND_BY_SCHEMA, derandomize=False)
            holdings.append(Holding.of(predictor.pid))
        growth = Growth.over(holdings[WARM_UP_ROUNDS:])
        print(f"\n{dict(answers)}\nMiB over time: {[round(one.memory_mib) for one in holdings]}; {holdings[-1]}; {growth}")
        assert set(answers) >= EVERY_STATUS
        assert growth.beyond(MAX_GROWTH) == []
        assert httpx.get(f"{predictor.url}/v2/health/ready").status_code == 200
    finally:
        status = predictor.stop()
    assert status == 0
