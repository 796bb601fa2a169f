"""What `python -m benchmarks` measures of the predictor, by name."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.commands import describe_conditions, limit_figure
from benchmarks.figures import Figure
from benchmarks.machine import Watch
from benchmarks.pairs import Pair, play
from benchmarks.processes import resident_bytes
from benchmarks.ratios import ratio_figure
from benchmarks.serving import servers
from benchmarks.serving.client import send_load
from benchmarks.serving.comparisons import FASTAPI, MAX_PAIRS, NUM_CLIENTS, NUM_PAIRS, compare_jpeg, compare_tensors, measure
from benchmarks.serving.contestants import Side, describe_turns, engine_alone, load_on, serve
from benchmarks.serving.mean_color import prepare_mean_color
from benchmarks.serving.network import Network, prepare_network
from benchmarks.serving.payloads import jpeg_body
from benchmarks.serving.servers import HOST

Benchmark = Callable[[Watch, Path], list[Figure]]

INT8 = Side(start=partial(servers.slipway, precision="int8"), payload=jpeg_body)
BINARY_GOALS = {32: 10.0, 224: 60.0}
MAX_OVER_ENGINE = 1.25
MAX_TAIL = 3.0
MAX_START_SECONDS = 0.5
MAX_MEMORY = 0.4
NUM_STARTS = 5


def measure_jpeg(side: int, watch: Watch, folder: Path) -> list[Figure]:
    """JPEG files of ResNet-18 at 16 clients; with the first comparison, how far the slow answers lie from the middle."""
    network = prepare_network(side)
    measured = [(comparison, *measure(comparison, network, f"{side} px", watch, folder)) for comparison in compare_jpeg()]
    int8 = measured[0][2]
    return [_tail_figure(int8, side), *(figure for _comparison, figure, _pairs in measured)]


def measure_tensors(side: int, watch: Watch, folder: Path) -> list[Figure]:
    """ResNet-18 by V2 JSON and V2 binary."""
    network = prepare_network(side)
    return [
        measure(comparison, network, f"{side} px", watch, folder)[0] for comparison in compare_tensors(BINARY_GOALS[side], "int8")
    ]


def measure_protocol(side: int, watch: Watch, folder: Path) -> list[Figure]:
    """The same with a model that costs next to nothing: what the servers themselves cost."""
    network = prepare_mean_color(side, folder)
    return [
        measure(comparison, network, f"{side} px, no model", watch, folder)[0]
        for comparison in compare_tensors(BINARY_GOALS[side], "fp32")
    ]


def measure_latency(watch: Watch, folder: Path) -> list[Figure]:
    """One client's JPEG files of 224 px, over what the engine takes by itself."""
    network = prepare_network(224)
    with ExitStack() as stack:
        server, requests = stack.enter_context(serve(INT8, network, folder))
        player = stack.enter_context(load_on(server, requests, folder, num_clients=1))
        engine = stack.enter_context(engine_alone(network, "int8", folder))
        pairs = list(play(player, engine, watch, num_pairs=NUM_PAIRS, max_pairs=MAX_PAIRS))
    return [
        ratio_figure(
            pairs,
            [pair.ours.facts["p50"] / pair.baseline.facts["p50"] for pair in pairs],
            name="serving-latency",
            title="224 px: JPEG, int8, p50 of one client over the engine's own time",
            wanted=MAX_OVER_ENGINE,
            higher_is_better=False,
            details=describe_turns(pairs, "engine"),
        )
    ]


def measure_starts(watch: Watch, folder: Path) -> list[Figure]:
    """From the start of the process to the first answer, and the memory held after a load, by turns with FastAPI."""
    network = prepare_network(224)
    starts: dict[str, list[float]] = {"slipway": [], "fastapi": []}
    memory: dict[str, list[int]] = {"slipway": [], "fastapi": []}
    watch.await_quiet()
    before = watch.look()
    for number in range(NUM_STARTS):
        for name, side in (("slipway", INT8), ("fastapi", FASTAPI)):
            seconds, resident = _start_once(side, network, folder / f"{name}-{number}")
            starts[name].append(seconds)
            memory[name].append(resident)
    conditions = describe_conditions(watch, before)
    shares = [ours / theirs for ours, theirs in zip(memory["slipway"], memory["fastapi"], strict=True)]
    return [
        limit_figure(
            "serving-start",
            "224 px: JPEG, int8, from the start of the process to the first answer",
            MAX_START_SECONDS,
            starts["slipway"],
            {"fastapi_seconds": round(statistics.median(starts["fastapi"]), 3)},
            conditions,
        ),
        limit_figure(
            "serving-memory",
            "224 px: memory (RSS) after a load of 16 clients, of FastAPI + torch",
            MAX_MEMORY,
            shares,
            {f"{name}_mib": round(statistics.median(values) / 2**20, 1) for name, values in memory.items()},
            conditions,
            unit="%",
        ),
    ]


def _start_once(side: Side, network: Network, folder: Path) -> tuple[float, int]:
    folder.mkdir()
    with serve(side, network, folder) as (server, requests):
        bodies = [path.read_bytes() for path in sorted(requests.iterdir())]
        send_load((HOST, server.port), bodies, num_clients=NUM_CLIENTS, seconds=1.0, warm_up=0.0)
        return server.start_seconds, resident_bytes(server.pid)


def _tail_figure(pairs: Sequence[Pair], side: int) -> Figure:
    return ratio_figure(
        pairs,
        [pair.ours.facts["p99"] / pair.ours.facts["p50"] for pair in pairs],
        name=f"serving-{side} px-tail",
        title=f"{side} px: JPEG, int8, p99 over p50 at {NUM_CLIENTS} clients",
        wanted=MAX_TAIL,
        higher_is_better=False,
        details={},
    )


SERVING: dict[str, Benchmark] = {
    **{f"serving-jpeg-{side}": partial(measure_jpeg, side) for side in BINARY_GOALS},
    **{f"serving-tensors-{side}": partial(measure_tensors, side) for side in BINARY_GOALS},
    **{f"serving-protocol-{side}": partial(measure_protocol, side) for side in BINARY_GOALS},
    "serving-latency": measure_latency,
    "serving-starts": measure_starts,
}
