"""Which requests are looked at more closely."""

from random import Random


class Sampler:
    """Says yes to a share of what it is asked about, at random and independently."""

    def __init__(self, rate: float) -> None:
        """`rate` is from 0 (never) to 1 (always)."""
        self._rate = rate
        self._random = Random()  # noqa: S311  # nothing is kept secret by it

    def take(self) -> bool:
        """Whether this one is to be looked at."""
        return self._random.random() < self._rate
