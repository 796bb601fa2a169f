"""How long a model takes for one sample."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Engine

MAX_TIMED = 200
"""Most predictions that are timed."""
_MIN_TIMED = 20
_MAX_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of single-sample predictions through a warm engine, in milliseconds."""

    p50_ms: float
    p99_ms: float
    num_predictions: int


def measure_latency(engine: Engine, samples: Sequence[Mapping[str, NDArray[Any]]]) -> Latency:
    """Time 200 predictions, going round the samples; a slow model stops after five seconds and at least 20 predictions.

    Args:
        engine: The loaded model.
        samples: Inputs with a batch of one each, at least one.
    """
    engine.warm_up(samples[0])
    seconds: list[float] = []
    deadline = time.perf_counter() + _MAX_SECONDS
    while len(seconds) < MAX_TIMED and (len(seconds) < _MIN_TIMED or time.perf_counter() < deadline):
        sample = samples[len(seconds) % len(samples)]
        start = time.perf_counter()
        engine.predict(sample)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000.0
    return Latency(p50_ms=float(p50), p99_ms=float(p99), num_predictions=len(seconds))
