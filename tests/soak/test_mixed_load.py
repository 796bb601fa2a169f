"""An hour of everything at once, at a bounded rate: no answer is wrong, and the predictor does not grow."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

from slipway.export.bundle import read_bundle
from slipway.serving.record import ServingRecord, write_pointer
from tests.bundles import served_record, write_image_bundle
from tests.serving.predictor import MODEL_NAME, Predictor, start_predictor
from tests.soak.connection import Connection
from tests.soak.growth import Growth, Holding
from tests.soak.traffic import BRIGHT, KINDS, Client

NUM_CLIENTS = 12
REST_SECONDS = 0.2
"""Between two requests of a client: at most some 60 requests a second in all."""
RELOAD_SECONDS = 7.0
LOOK_SECONDS = 1.0
WARM_UP = 0.2
"""Share of the time after which nothing may grow."""
MAX_WARM_UP_SECONDS = 300.0
MAX_GROWTH = Growth(memory_mib=32.0, files=4, threads=1)
VERSIONS = ("1", "2")


def test_under_mixed_load_no_answer_is_wrong_and_nothing_grows(tmp_path: Path, soak_seconds: float) -> None:
    bundles = {version: tmp_path / f"bundle-{version}" for version in VERSIONS}
    for version, folder in bundles.items():
        write_image_bundle(folder, seed=int(version))
    expected = {version: answer(folder) for version, folder in bundles.items()}
    pointer = tmp_path / "current.json"
    records = {version: served_record(folder, version, model_name=MODEL_NAME) for version, folder in bundles.items()}
    write_pointer(pointer, records["1"])

    predictor = start_predictor(None, "--pointer", str(pointer), folder=tmp_path)
    try:
        holdings, counts = asyncio.run(run_load(predictor, pointer, records, expected, soak_seconds))
        growth = Growth.over(holdings)
        print(
            f"\n{sum(counts.values())} turns: {dict(counts)}\nMiB over time: {trace(holdings)}; "
            f"{holdings[-1]} at the end; {growth}"
        )
        assert predictor.process.poll() is None, predictor.log[-3000:]
        assert "Traceback" not in predictor.log
        assert growth.beyond(MAX_GROWTH) == []
    finally:
        status = predictor.stop()
    assert status == 0


async def run_load(
    predictor: Predictor,
    pointer: Path,
    records: dict[str, ServingRecord],
    expected: dict[str, np.ndarray],
    seconds: float,
) -> tuple[list[Holding], Counter[str]]:
    """What the predictor held from second to second after the warm-up, and how often each kind of request was made."""
    ends_at = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    holdings: list[Holding] = []
    async with asyncio.TaskGroup() as group:
        for seed in range(NUM_CLIENTS):
            group.create_task(be_client(predictor.port, expected, ends_at, seed, counts))
        group.create_task(reload(pointer, records, ends_at))
        group.create_task(watch(predictor.pid, ends_at, min(WARM_UP * seconds, MAX_WARM_UP_SECONDS), holdings))
    return holdings, counts


async def be_client(port: int, expected: dict[str, np.ndarray], ends_at: float, seed: int, counts: Counter[str]) -> None:
    """One kind of request after the other."""
    choice = random.Random(seed)
    kinds, weights = zip(*KINDS, strict=True)
    async with Connection(port) as connection:
        client = Client(connection=connection, expected=expected)
        while time.monotonic() < ends_at:
            kind = choice.choices(kinds, weights)[0]
            await kind(client)
            counts[kind.__name__] += 1
            await asyncio.sleep(choice.uniform(0.5, 1.5) * REST_SECONDS)


async def reload(pointer: Path, records: dict[str, ServingRecord], ends_at: float) -> None:
    """The other version takes over, again and again."""
    number = 0
    while time.monotonic() + RELOAD_SECONDS < ends_at:
        await asyncio.sleep(RELOAD_SECONDS)
        number += 1
        write_pointer(pointer, records[VERSIONS[number % len(VERSIONS)]])


async def watch(pid: int, ends_at: float, warm_up_seconds: float, holdings: list[Holding]) -> None:
    await asyncio.sleep(warm_up_seconds)
    while time.monotonic() < ends_at:
        holdings.append(Holding.of(pid))
        await asyncio.sleep(LOOK_SECONDS)


def trace(holdings: list[Holding]) -> list[int]:
    """Memory at some twenty moments."""
    return [round(one.memory_mib) for one in holdings[:: max(1, len(holdings) // 20)]]


def answer(bundle_dir: Path) -> np.ndarray:
    """What the model there says of `BRIGHT`, from ONNX Runtime itself."""
    session = onnxruntime.InferenceSession(str(read_bundle(bundle_dir).model_path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": BRIGHT[None]})[0][0])
