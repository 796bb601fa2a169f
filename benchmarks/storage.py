"""Moving small and large files to a real S3 server and back, beside boto3 and the minio SDK."""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.machine import Watch
from benchmarks.pairs import Pair, play, undisturbed
from benchmarks.ratios import ratio_figure
from benchmarks.turns import Contestant, Turn, stock_environment
from tests.servers.s3 import S3Server, start_minio

NUM_PAIRS = 7
SMALL_BYTES = 3_000
NUM_SMALL = 1_000
LARGE_BYTES = 256 << 20
NUM_THREADS = 16
"""Of the baselines, for small files; large ones travel by the library's own threads."""

_MEMORY = Path("/dev/shm")


def measure_storage_small(watch: Watch, folder: Path) -> list[Figure]:
    """Files of 3 kB, a thousand up and down again."""
    return _measure(watch, folder, "small", {"minio": 4.0, "boto3": 8.0})


def measure_storage_large(watch: Watch, folder: Path) -> list[Figure]:
    """One file of 256 MiB, up and down again."""
    return _measure(watch, folder, "large", {"boto3": 3.0})


def _measure(watch: Watch, folder: Path, size: str, goals: dict[str, float]) -> list[Figure]:
    """Server and files lie in memory, where that is possible: a disk's moods are not what is compared."""
    with ExitStack() as stack:
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else folder))
        server = start_minio(Path(memory) / "server")
        stack.callback(server.stop)
        _write_files(Path(memory) / "source", size)
        return [_compare(watch, folder, Path(memory), server, size, library, goal) for library, goal in goals.items()]


def _compare(watch: Watch, folder: Path, memory: Path, server: S3Server, size: str, library: str, goal: float) -> Figure:
    environment = {**stock_environment(), **server.environment}

    def start(name: str, module: str, *options: str) -> Contestant:
        places = ("--source", str(memory / "source"), "--target", str(memory / name), "--bucket", server.make_bucket())
        return Contestant(name, [sys.executable, "-m", module, *options, *places], environment, folder)

    with (
        start("slipway", "benchmarks.players.storage") as player,
        start(library, "benchmarks.baselines.storage", "--library", library, "--threads", str(NUM_THREADS)) as baseline,
    ):
        pairs = list(play(player, baseline, watch, num_pairs=NUM_PAIRS))
    return _to_figure(pairs, size, library, goal)


def _to_figure(pairs: Sequence[Pair], size: str, library: str, goal: float) -> Figure:
    ratios = [_seconds(pair.baseline) / _seconds(pair.ours) for pair in pairs]
    what = f"{NUM_SMALL} files of 3 kB" if size == "small" else "a file of 256 MiB"
    return ratio_figure(
        pairs,
        ratios,
        name=f"storage-{size}-{library}",
        title=f"Storage, {what} up and down, against {library}",
        wanted=goal,
        details=_describe(pairs, size, library),
    )


def _describe(pairs: Sequence[Pair], size: str, library: str) -> dict[str, Any]:
    """Median rates each way, and what a file cost the client's own processor time, over the undisturbed pairs."""
    pairs = undisturbed(pairs)
    count, unit = (NUM_SMALL, "files_per_second") if size == "small" else (LARGE_BYTES / 1e6, "mb_per_second")

    def both(measure: Callable[[Turn], float]) -> dict[str, float]:
        return {
            "slipway": round(statistics.median(measure(pair.ours) for pair in pairs), 3),
            library: round(statistics.median(measure(pair.baseline) for pair in pairs), 3),
        }

    return {
        f"up_{unit}": both(lambda turn: count / turn.facts["up_seconds"]),
        f"down_{unit}": both(lambda turn: count / turn.facts["down_seconds"]),
        "client_cpu_seconds": both(lambda turn: turn.facts["cpu_seconds"]),
    }


def _seconds(turn: Turn) -> float:
    return turn.facts["up_seconds"] + turn.facts["down_seconds"]


def _write_files(folder: Path, size: str) -> None:
    folder.mkdir()
    if size == "small":
        for number in range(NUM_SMALL):
            (folder / f"{number:04}.bin").write_bytes(os.urandom(SMALL_BYTES))
        return
    with (folder / "large.bin").open("wb") as stream:
        for _ in range(LARGE_BYTES >> 20):
            stream.write(os.urandom(1 << 20))
