"""Requests as observers see them."""

import time
from collections.abc import Callable

import numpy as np

from slipway.serving.exchange import Exchange


def make_exchange(**changes: object) -> Exchange:
    """A request that came just now and was answered."""
    now = time.perf_counter()
    facts: dict[str, object] = {
        "request_id": "r-1",
        "wire": "v2",
        "received_at": now,
        "num_samples": 1,
        "decode_seconds": 0.001,
        "queue_seconds": 0.002,
        "inference_seconds": 0.004,
        "batch_size": 2,
        "status": 200,
    }
    return Exchange(**{**facts, **changes})


def wait_for(holds: Callable[[], object], timeout_seconds: float = 20.0) -> None:
    """Return once `holds()` does."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def make_images(*levels: int, size: int = 4) -> dict[str, np.ndarray]:
    """One grey image for each level."""
    return {"image": np.stack([np.full((size, size + 2, 3), level, np.uint8) for level in levels])}
