"""A model that multiplies, stops when it is told to, and keeps what it saw; and those who ask it."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays, EngineInfo, MakeRoom
from slipway.errors import RequestError
from slipway.export.bundle import BundleInfo
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.exchange import Exchange
from slipway.serving.inference.batching import BatchOptions
from slipway.serving.inference.model import LoadedModel, ModelSlot

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="number", dtype="float32", shape=(None, 1)),
        TensorSpec(name="word", dtype="string", shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="scaled", dtype="float32", shape=(None, None)),
        TensorSpec(name="word", dtype="string", shape=(None,)),
    ),
)
REFUSED, FATAL = -1.0, -2.0
WAIT_SECONDS = 20


class Multiplier:
    """Multiplies numbers and repeats words. It stops before each inference while its gate is closed, and keeps what it saw."""

    batch_sizes: tuple[int, ...] = ()
    info = EngineInfo(name="onnxruntime", version="0", device="cpu", precision="fp32", num_threads=1, reason="A test.")
    signature = SIGNATURE

    def __init__(self, factor: float = 2.0, *, is_open: bool = True) -> None:
        self.factor = factor
        self.batches: list[NDArray[Any]] = []
        self.threads: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def predict(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return self.predict_prepared(self.prepare(inputs))

    def prepare(self, inputs: Arrays, make_room: MakeRoom | None = None) -> Arrays:
        if REFUSED in np.atleast_1d(inputs.get("number", ())):
            raise RequestError("The model does not take -1.")
        return inputs

    def predict_prepared(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.batches.append(inputs["number"])
        self.threads.append(threading.current_thread().name)
        try:
            assert self.gate.wait(WAIT_SECONDS)
            if FATAL in inputs["number"]:
                raise RuntimeError("out of everything")
            return {"scaled": inputs["number"] * np.float32(self.factor), "word": inputs["word"]}
        finally:
            self.at_once -= 1

    def warm_up(self, inputs: Arrays, num_predictions: int = 3) -> None:
        pass


def on_a_loop(test):
    """The coroutine function as a test."""

    @wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 2 * WAIT_SECONDS))

    return run


@dataclass(frozen=True)
class Parsed:
    inputs: dict[str, NDArray[Any]]


def model_of(engine: Multiplier, version: str = "1") -> LoadedModel:
    info = BundleInfo(
        task="t", architecture="a", signature=engine.signature, class_names=(), dataset_id="d", code_version="c", opset=18,
        metrics={}, model={}, parity_max_difference=0.0,
    )  # fmt: skip
    return LoadedModel(name="m", version=version, info=info, engine=engine)


def rows(*values: float, width: int = 1) -> dict[str, NDArray[Any]]:
    number = np.repeat(np.array(values, np.float32)[:, None], width, axis=1)
    return {"number": number, "word": np.array([f"{value}" for value in values], object)}


def exchange(request_id: str = "r", **fields: Any) -> Exchange:
    return Exchange(request_id=request_id, wire="v2", received_at=perf_counter(), **fields)


@asynccontextmanager
async def serving(engine: Multiplier, **options: int):
    slot = ModelSlot(model_of(engine), BatchOptions(**options))
    try:
        yield slot
    finally:
        engine.gate.set()
        await asyncio.to_thread(slot.close)


def ask(slot: ModelSlot, inputs: dict[str, NDArray[Any]], **fields: Any) -> "asyncio.Task[dict[str, NDArray[Any]]]":
    return asyncio.create_task(slot.predict(slot.current, inputs, exchange(**fields)))


async def until(condition) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


def num_in_line(slot: ModelSlot) -> int:
    """Samples that wait for the model and for nothing else."""
    return slot._batcher._backlog._line.num_samples


async def hold(slot: ModelSlot, engine: Multiplier) -> "asyncio.Task[dict[str, NDArray[Any]]]":
    """A first request that keeps the model busy until the gate opens."""
    engine.gate.clear()
    first = ask(slot, rows(1000.0))
    await until(lambda: engine.at_once)
    return first


def seen(engine: Multiplier) -> list[list[float]]:
    return [batch[:, 0].tolist() for batch in engine.batches]
