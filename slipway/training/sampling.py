"""Which samples each process sees in which step of an epoch.

Invariants, for any number of processes W:
- over an epoch, all processes together see each sample exactly once;
- step s covers the same samples whatever W is; rank r takes every W-th of them;
- all processes take the same number of steps, and in each step their shares differ by at most one sample.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slipway.errors import ConfigError
from slipway.training.seeding import Purpose, derive_seed

MIN_SHARE = 2
"""Samples that each process gets in a step at least: batch normalisation cannot train on one."""


def count_steps(num_rows: int, batch_size: int, world_size: int) -> int:
    """Batches in an epoch.

    Raises:
        ConfigError: the batch, or the split, is too small to be shared.
    """
    smallest = MIN_SHARE * world_size
    if batch_size < smallest:
        raise ConfigError(
            f"train.batch_size is {batch_size}, which {world_size} process(es) share; accepted: {smallest} or more. "
            "Enlarge it or train with fewer processes."
        )
    if num_rows < smallest:
        raise ConfigError(
            f"the train split has {num_rows} samples, too few for {world_size} process(es): "
            f"each needs {MIN_SHARE}. Train with fewer processes or add data."
        )
    return min(-(-num_rows // batch_size), num_rows // smallest)


def plan_epoch(num_rows: int, num_steps: int, seed: int, epoch: int) -> Sequence[NDArray[np.int64]]:
    """The rows of each step of an epoch, shuffled by (seed, epoch).

    Batches differ by one sample at most, so that no small last one is left, which would weigh and normalise badly.
    """
    generator = np.random.default_rng(derive_seed(seed, Purpose.ORDER, epoch))
    return np.array_split(generator.permutation(num_rows), num_steps)


def take_share(rows: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """A rank's part of a step, ascending, which is the order mapped files are read fastest in."""
    return np.sort(rows[rank::world_size])
