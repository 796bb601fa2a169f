"""Ports for servers that have to be told theirs before they start."""

import random
import socket
from contextlib import suppress
from pathlib import Path

_LOWEST = 10_000
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def find_free_port() -> int:
    """A free port of the loopback address, and none of those that clients are given: no connection takes it in between."""
    end = max(int(_GIVEN.read_text().split()[0]), 2 * _LOWEST)
    while True:
        port = random.randrange(_LOWEST, end)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
