"""Larger batches are made ready once a model answers: the first answer does not wait for them, and no later one either."""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Engine
from slipway.log import get_logger

_log = get_logger(__name__)


class BatchSizes:
    """The batches that an engine takes without having to prepare itself for them."""

    def __init__(self, wanted: Sequence[int] = ()) -> None:
        """`wanted` are the sizes that are to be ready in time, ascending from 1; none where the engine takes any at once."""
        self._wanted = tuple(wanted)
        self._ready = self._wanted[:1]

    def fit(self, num_samples: int) -> int:
        """The largest batch that is ready, of so many samples at most."""
        ready = self._ready  # another thread puts a longer one in its place
        return ready[bisect(ready, num_samples) - 1] if ready else num_samples

    def warm_up(self, engine: Engine, example: Mapping[str, NDArray[Any]], max_size: int, is_wanted: Callable[[], bool]) -> None:
        """Prepare the engine for the sizes up to `max_size`, one after the other, for as long as `is_wanted`.

        Args:
            engine: That predicts, on other threads too, meanwhile.
            example: One sample, which is repeated.
            max_size: Samples that go together at most.
            is_wanted: Whether the model is still in service.
        """
        for size in self._wanted[len(self._ready) :]:
            if size > max_size or not is_wanted():
                return
            try:
                engine.warm_up({name: np.repeat(array[:1], size, axis=0) for name, array in example.items()}, 2)
            except Exception as error:  # noqa: BLE001 - smaller batches do too
                _log.error("batch_size_not_ready", size=size, error=repr(error))
                return
            self._ready = (*self._ready, size)
