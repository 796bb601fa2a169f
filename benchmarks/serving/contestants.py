"""Who takes turns: a load generator pointed at a server, or the engine by itself."""

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pairs import Pair, undisturbed
from benchmarks.serving.network import Network
from benchmarks.serving.payloads import Payload, write_requests
from benchmarks.serving.servers import Server, Starter, run_server
from benchmarks.turns import Contestant, stock_environment
from slipway.cores import count_cores

SECONDS = 2.0
"""Of each turn, after the warm-up."""
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server, and the form in which it is asked."""

    start: Starter
    payload: Payload


@contextmanager
def serve(side: Side, network: Network, folder: Path) -> Iterator[tuple[Server, Path]]:
    """The running server, and the folder of the requests that it is to get."""
    with ExitStack() as stack:
        launch = side.start(network, folder)
        requests = write_requests(folder / f"{launch.name}-requests", side.payload, network.images)
        first = sorted(requests.iterdir())[0].read_bytes()
        yield stack.enter_context(run_server(launch, folder, first)), requests


def load_on(server: Server, requests: Path, folder: Path, *, num_clients: int) -> Contestant:
    """Loads the server each turn."""
    command = [sys.executable, "-m", "benchmarks.serving.load", "--port", str(server.port), "--server-pid", str(server.pid)]
    how = ("--clients", str(num_clients), "--seconds", str(SECONDS), "--warm-up", str(WARM_UP_SECONDS))
    return Contestant(server.name, [*command, "--requests", str(requests), *how], stock_environment(), folder / f"{num_clients}")


def engine_alone(network: Network, precision: str, folder: Path) -> Contestant:
    """Runs the engine each turn, on the same images, with the threads that the predictor gives it."""
    path = folder / "images.npy"
    np.save(path, network.images)
    command = [sys.executable, "-m", "benchmarks.serving.engine", "--bundle", str(network.bundle_dir), "--images", str(path)]
    threads = ("--precision", precision, "--threads", str(count_cores()))
    how = (*threads, "--seconds", str(SECONDS), "--warm-up", str(WARM_UP_SECONDS))
    return Contestant("engine", [*command, *how], stock_environment(), folder)


def describe_turns(pairs: Sequence[Pair], baseline: str) -> dict[str, Any]:
    """Medians of both sides over the undisturbed pairs, over all where there is none."""
    pairs = undisturbed(pairs)
    sides = {"slipway": [pair.ours.facts for pair in pairs], baseline: [pair.baseline.facts for pair in pairs]}

    def both(fact: str, scale: float = 1.0) -> dict[str, float]:
        return {
            name: round(scale * statistics.median(turn[fact] for turn in turns), 3)
            for name, turns in sides.items()
            if fact in turns[0]
        }

    return {
        "answers_per_second": both("rate"),
        **{f"{name}_ms": both(name, 1000.0) for name in ("p50", "p90", "p99")},
        "processor_ms_an_answer": both("server_seconds", 1000.0),
        "cores_of_the_generator": both("generator_share"),
        "cores_of_the_server": both("server_share"),
    }
