"""How many threads compute one operation."""

import torch

MIN_STEP_MACS = 1_000_000_000
"""Multiply-accumulates of a forward step below which a second thread does not pay.

Measured on 2 cores with the digits (0.15 G): 4.2k images/s on one thread, 3.9k to 5.4k on two while the machine is idle, and 50
to 1000 as soon as another process wants one of the cores, since threads of so short an operation spin waiting for each other.
"""


def limit_threads(device: torch.device, step_macs: int) -> int:
    """Keep a small network on one thread; returns the number of threads in use."""
    if device.type == "cpu" and step_macs < MIN_STEP_MACS:
        torch.set_num_threads(1)
    return torch.get_num_threads()
