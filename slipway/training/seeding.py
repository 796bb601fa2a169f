"""Randomness without state: every draw follows from (seed, what it is for, where training stands).

A resumed run therefore needs no generator's history to go on exactly as an uninterrupted one would.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """Separates the streams drawn from one seed."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENT = 2
    NETWORK = 3


def derive_seed(seed: int, purpose: Purpose, *position: int) -> int:
    """A 63-bit seed for one draw; `position` is epoch, step and rank as far as the draw depends on them."""
    sequence = np.random.SeedSequence([seed, int(purpose), *position])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_torch(seed: int, purpose: Purpose, *position: int) -> None:
    """Set torch's own generators (weight initialisation, dropout)."""
    torch.manual_seed(derive_seed(seed, purpose, *position))
