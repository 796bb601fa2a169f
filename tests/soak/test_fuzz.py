"""Tens of thousands of requests that are nearly right: no failure of the server's, and no growth of its memory."""

from pathlib import Path

import httpx
import pytest

from tests.bundles import write_image_bundle, write_table_bundle
from tests.serving.fuzzing import MIB, fuzz, fuzz_by_schema
from tests.serving.predictor import start_predictor

NUM_REQUESTS = 30_000
NUM_BY_SCHEMA = 300
MAX_GROWTH_BYTES = 128 * MIB
"""Since the first few hundred requests: what one huge image takes and the allocator keeps."""
MAX_LATER_GROWTH_BYTES = 48 * MIB
"""In the second half, when every kind of request has been seen."""


@pytest.mark.parametrize("takes_images", [True, False])
def test_tens_of_thousands_of_requests_meet_no_failure_and_leave_nothing_behind(tmp_path: Path, takes_images: bool):
    write = write_image_bundle if takes_images else write_table_bundle
    write(tmp_path / "bundle")
    running = start_predictor(tmp_path / "bundle", folder=tmp_path)
    try:
        growth = fuzz(running, takes_images=takes_images, num_requests=NUM_REQUESTS // 2, derandomize=False)
        later = fuzz(running, takes_images=takes_images, num_requests=NUM_REQUESTS // 2, derandomize=False)
        assert later < MAX_LATER_GROWTH_BYTES
        document = httpx.get(f"{running.url}/openapi.json").json()
        before = running.memory_bytes
        fuzz_by_schema(running, document, num_requests_each=NUM_BY_SCHEMA, derandomize=False)
        assert growth + later + running.memory_bytes - before < MAX_GROWTH_BYTES
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
    finally:
        assert running.stop() == 0
