"""How often a figure was how large: a Prometheus histogram whose counts cost a microsecond, for one value or thousands."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Distribution:
    """Counts by bucket; to be used from one thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the buckets' largest values, rising; a last bucket without one is added."""
        self.total = 0.0
        """Sum of all values."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add_all(self, values: NDArray[Any]) -> None:
        """Count each of an array's values."""
        places = np.searchsorted(self._bounds, values)
        for place, count in enumerate(np.bincount(places, minlength=len(self._counts)).tolist()):
            self._counts[place] += count
        self.total += float(values.sum())

    def buckets(self) -> list[tuple[str, float]]:
        """How many values were at most as large as each bound, with the bound as Prometheus writes it."""
        cumulated, found = 0, []
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), self._counts, strict=True):
            cumulated += count
            found.append((bound, float(cumulated)))
        return found
