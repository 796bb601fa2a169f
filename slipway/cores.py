"""How many cores this process may keep busy."""

import math
import os
from pathlib import Path

_CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


def count_cores(quota_file: Path = _CPU_QUOTA_FILE) -> int:
    """Those of the machine that the process may run on, or the container's limit where that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, max(1, math.ceil(int(quota) / int(period))))
