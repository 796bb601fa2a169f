"""What processes take of the machine, from /proc: they with all that descend from them."""

import os
from collections.abc import Iterator
from pathlib import Path


def processor_seconds(root: int) -> float:
    """Of the process `root` and its descendants that still run, ended children included."""
    return sum(sum(map(int, fields[11:15])) for fields in _tree(root)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(root: int) -> int:
    """Memory that the process `root` and its descendants hold (RSS), pages that they share counted once for each."""
    return sum(int(fields[21]) for fields in _tree(root)) * os.sysconf("SC_PAGE_SIZE")


def _tree(root: int) -> Iterator[list[str]]:
    """What /proc/PID/stat says after the command's name, one process after the other."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return (fields for process, fields in stats.items() if _descends(process, root, stats))


def _descends(process: int, root: int, stats: dict[int, list[str]]) -> bool:
    while process and process != root:
        process = int(stats[process][1]) if process in stats else 0
    return process == root
