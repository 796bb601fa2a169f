"""Which requests are looked at more closely."""

import numpy as np

from slipway.errors import ConfigError

_BATCH = 1024


class Sampler:
    """Says yes to a share of what it is asked about, at random and independently."""

    def __init__(self, rate: float, *, seed: int | None = None) -> None:
        """`rate` is from 0 (never) to 1 (always); `seed` makes the choices repeatable."""
        self._rate = rate
        self._generator = np.random.default_rng(seed)
        self._drawn: list[float] = []

    def take(self) -> bool:
        """Whether this one is to be looked at."""
        if self._rate in (0.0, 1.0):
            return self._rate == 1.0
        if not self._drawn:
            self._drawn = self._generator.random(_BATCH).tolist()
        return self._drawn.pop() < self._rate


def check_rate(option: str, rate: float) -> None:
    """ConfigError where a share of requests is none."""
    if not 0.0 <= rate <= 1.0:
        raise ConfigError(f"{option} is {rate}; accepted: a number from 0 (none) to 1 (all).")
