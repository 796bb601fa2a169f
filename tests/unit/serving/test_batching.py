import asyncio
import gc
import threading
import weakref
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipway.engines.engine import EngineInfo
from slipway.errors import DeadlineError, OverloadedError, PredictionError, RequestError
from slipway.export.bundle import BundleInfo
from slipway.export.golden import GoldenExample
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.exchange import Exchange
from slipway.serving.inference.batching import BatchOptions
from slipway.serving.inference.model import LoadedModel, ModelSlot
from slipway.serving.inference.waiting import Line, Waiting
from slipway.serving.inference.warming import BatchSizes

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

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.batches.append(inputs["number"])
        self.threads.append(threading.current_thread().name)
        try:
            assert self.gate.wait(WAIT_SECONDS)
            if (inputs["number"] == REFUSED).any():
                raise RequestError("The model does not take -1.")
            if (inputs["number"] == FATAL).any():
                raise RuntimeError("out of everything")
            return {"scaled": inputs["number"] * np.float32(self.factor), "word": inputs["word"]}
        finally:
            self.at_once -= 1

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return inputs

    def warm_up(self, inputs: Mapping[str, NDArray[Any]], num_predictions: int = 3) -> None:
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


def exchange(**fields: Any) -> Exchange:
    return Exchange(request_id="r", wire="v2", received_at=perf_counter(), **fields)


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


async def hold(slot: ModelSlot, engine: Multiplier) -> "asyncio.Task[dict[str, NDArray[Any]]]":
    """A first request that keeps the model busy until the gate opens."""
    engine.gate.clear()
    first = ask(slot, rows(1000.0))
    await until(lambda: engine.at_once)
    return first


def seen(engine: Multiplier) -> list[list[float]]:
    return [batch[:, 0].tolist() for batch in engine.batches]


@on_a_loop
async def test_what_came_during_an_inference_goes_together_in_order_of_arrival_up_to_the_limit():
    engine = Multiplier()
    async with serving(engine, max_batch_size=4) as slot:
        first = await hold(slot, engine)
        others = [ask(slot, rows(*values)) for values in ([1], [2, 3], [4], [5, 6, 7], [8])]
        await until(lambda: slot.num_waiting == 8)
        engine.gate.set()
        answers = await asyncio.gather(first, *others)
    assert seen(engine) == [[1000], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert [answer["scaled"][:, 0].tolist() for answer in answers[1:]] == [[2], [4, 6], [8], [10, 12, 14], [16]]
    assert [answer["word"].tolist() for answer in answers[1:3]] == [["1"], ["2", "3"]]


@on_a_loop
async def test_a_lone_request_waits_for_nobody_and_is_decoded_and_inferred_by_one_thread():
    engine = Multiplier()
    threads = []

    def decode(value: float) -> Parsed:
        threads.append(threading.current_thread().name)
        return Parsed(rows(value, value))

    async with serving(engine) as slot:
        asked = exchange()
        parsed, outputs = await slot.decode_and_predict(slot.current, asked, 10, decode, 4.0)
        assert threads == engine.threads != [threading.current_thread().name]
        assert outputs["scaled"][:, 0].tolist() == [8, 8]
        assert (parsed.inputs["number"].shape, asked.num_samples, asked.batch_size) == ((2, 1), 2, 2)
        assert min(asked.decode_seconds, asked.queue_seconds, asked.inference_seconds) > 0
        assert await slot.decode(threading.get_ident) != threading.get_ident()


@on_a_loop
async def test_requests_of_other_shapes_go_in_groups_of_their_own_the_oldest_first():
    engine = Multiplier()
    async with serving(engine, max_batch_size=8) as slot:
        first = await hold(slot, engine)
        tasks = [ask(slot, rows(value, width=width)) for value, width in ((1, 2), (2, 1), (3, 2), (4, 3), (5, 1), (6, 3))]
        await until(lambda: slot.num_waiting == 6)
        engine.gate.set()
        await asyncio.gather(first, *tasks)
    assert seen(engine) == [[1000], [1, 3], [2, 5], [4, 6]]


class Cropping(Multiplier):
    """Takes one number of each row, and needs longer for a batch that it was not prepared for."""

    signature = Signature(inputs=(TensorSpec(name="number", dtype="float32", shape=(None, None)),), outputs=SIGNATURE.outputs)
    batch_sizes = (1, 2, 4, 8)

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[int] = []

    def prepare(self, inputs):
        return {"number": inputs["number"][:, :1], "word": inputs["word"]}

    def warm_up(self, inputs, num_predictions=3):
        self.prepared.append(len(inputs["number"]))


@on_a_loop
async def test_samples_of_several_sizes_go_together_where_the_engine_brings_them_to_one_size():
    engine = Cropping()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        seen_together = [ask(slot, rows(value, width=width)) for value, width in ((1, 2), (2, 1), (3, 3))]
        await until(lambda: slot.num_waiting == 3)
        undecoded = [asyncio.create_task(slot.decode(lambda: None))]  # its turn comes after theirs
        await asyncio.gather(*undecoded)
        engine.gate.set()
        answers = await asyncio.gather(*seen_together)
        await first
    assert seen(engine) == [[1000], [1, 2, 3]]
    assert [answer["scaled"].tolist() for answer in answers] == [[[2.0]], [[4.0]], [[6.0]]]


@on_a_loop
async def test_only_batches_that_the_engine_is_prepared_for_are_put_together():
    engine = Cropping()
    golden = (GoldenExample(inputs=rows(1), outputs={}),)
    model = replace(model_of(engine), golden=golden, batch_sizes=BatchSizes(engine.batch_sizes))
    slot = ModelSlot(model, BatchOptions(max_batch_size=7))
    slot.warm_up()
    try:
        await until(lambda: model.batch_sizes.fit(9) == 4)
        assert engine.prepared == [2, 4]  # 8 is more than goes together
        first = await hold(slot, engine)
        tasks = [ask(slot, rows(value)) for value in (1, 2, 3)]
        large = ask(slot, rows(4, 5, 6, 7, 8))
        await slot.decode(lambda: None)
        engine.gate.set()
        await asyncio.gather(first, *tasks, large)
    finally:
        engine.gate.set()
        slot.close()
    assert seen(engine) == [[1000], [1, 2], [3], [4, 5, 6, 7], [8]]


@on_a_loop
async def test_no_request_starves_while_others_of_another_shape_keep_coming():
    engine = Multiplier()
    async with serving(engine, max_batch_size=2) as slot:
        rare = None
        done_after = []

        async def keep_asking(worker: int) -> None:
            for _ in range(50):
                await slot.predict(slot.current, rows(float(worker)), exchange())

        tasks = [asyncio.create_task(keep_asking(worker)) for worker in range(6)]
        await until(lambda: len(engine.batches) > 10)
        for width in (2, 3, 4):
            began_after = len(engine.batches)
            rare = await slot.predict(slot.current, rows(7.0, width=width), exchange())
            assert rare["scaled"].tolist() == [[14.0] * width]
            done_after.append(next(i for i, batch in enumerate(engine.batches) if batch.shape[1] == width) - began_after)
        await asyncio.gather(*tasks)
    assert max(done_after) <= 6  # at most the six that wait before it, two in a batch, and the one in progress
    assert engine.most_at_once == 1


@on_a_loop
async def test_a_cancelled_request_is_dropped_from_the_queue():
    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        kept, dropped = ask(slot, rows(1)), ask(slot, rows(2))
        undecoded = asyncio.create_task(slot.decode_and_predict(slot.current, exchange(), 10, lambda: Parsed(rows(3))))
        await until(lambda: slot.num_waiting == 3)
        for task in (dropped, undecoded):
            task.cancel()
        await asyncio.wait([dropped, undecoded])
        assert slot.num_waiting == 1
        engine.gate.set()
        await asyncio.gather(first, kept)
    assert seen(engine) == [[1000], [1]]


@on_a_loop
async def test_a_request_is_told_when_its_deadline_has_passed_and_is_not_inferred():
    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        with pytest.raises(DeadlineError, match="deadline"):
            await slot.predict(slot.current, rows(1), exchange(deadline=perf_counter() + 0.05))
        in_time = ask(slot, rows(3), deadline=perf_counter() + WAIT_SECONDS)
        assert not first.done()
        engine.gate.set()
        await asyncio.gather(first, in_time)
        with pytest.raises(DeadlineError):  # though the model is free
            await slot.predict(slot.current, rows(2), exchange(deadline=perf_counter() - 1))
    assert seen(engine) == [[1000], [3]]


@on_a_loop
async def test_a_full_queue_refuses_says_when_to_come_back_and_takes_requests_again_later():
    engine = Multiplier()
    async with serving(engine, max_queue_samples=4) as slot:
        await slot.predict(slot.current, rows(0), exchange())
        first = await hold(slot, engine)
        waiting = [ask(slot, rows(1, 2)), ask(slot, rows(3))]
        await until(lambda: slot.num_waiting == 3)
        with pytest.raises(OverloadedError, match="3 samples wait") as refusal:
            await slot.predict(slot.current, rows(4, 5), exchange())
        assert 1 <= refusal.value.retry_after_seconds <= 60
        waiting.append(ask(slot, rows(4)))
        await until(lambda: slot.num_waiting == 4)
        with pytest.raises(OverloadedError):
            await slot.decode_and_predict(slot.current, exchange(), 1, lambda: Parsed(rows(5)))
        assert slot.num_waiting == 4
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert slot.num_waiting == 0
        assert (await slot.predict(slot.current, rows(6), exchange()))["scaled"].tolist() == [[12.0]]
    assert seen(engine) == [[0], [1000], [1, 2, 3, 4], [6]]


@on_a_loop
async def test_the_memory_of_what_waits_is_bounded():
    engine = Multiplier()
    async with serving(engine, max_queue_bytes=10_000) as slot:
        first = await hold(slot, engine)
        waiting = ask(slot, rows(1, width=2000))
        await until(lambda: slot.num_waiting == 1)
        with pytest.raises(OverloadedError):
            await slot.predict(slot.current, rows(2, width=1000), exchange())
        with pytest.raises(OverloadedError):
            await slot.decode_and_predict(slot.current, exchange(), 5000, lambda: Parsed(rows(2)))
        engine.gate.set()
        await asyncio.gather(first, waiting)


@on_a_loop
async def test_bodies_are_decoded_ahead_of_the_model_only_as_far_as_it_can_take_them_soon():
    engine = Multiplier()
    decoded = []

    def decode(value: float) -> Parsed:
        decoded.append(value)
        return Parsed(rows(value))

    async with serving(engine, max_batch_size=4) as slot:
        first = await hold(slot, engine)
        tasks = [
            asyncio.create_task(slot.decode_and_predict(slot.current, exchange(), 10, decode, float(value)))
            for value in range(30)
        ]
        await until(lambda: len(decoded) == 8)
        await asyncio.sleep(0.05)
        assert len(decoded) == 8
        assert slot.num_waiting == 30
        engine.gate.set()
        answers = await asyncio.gather(*tasks, first)
    assert [outputs["scaled"].tolist() for _, outputs in answers[:-1]] == [[[2.0 * value]] for value in range(30)]


@on_a_loop
async def test_a_request_larger_than_a_batch_is_answered_in_pieces_and_others_go_in_between():
    engine = Multiplier()
    async with serving(engine, max_batch_size=4, max_queue_samples=8) as slot:
        first = await hold(slot, engine)
        asked = exchange()
        large = asyncio.create_task(slot.predict(slot.current, rows(*range(10)), asked))
        await until(lambda: slot.num_waiting == 10)
        engine.gate.set()
        await first
        answer = await large
        np.testing.assert_array_equal(answer["scaled"][:, 0], 2 * np.arange(10))
        assert answer["word"].tolist() == [f"{value}" for value in range(10)]
        assert (asked.num_samples, asked.batch_size) == (10, 4)
        assert seen(engine) == [[1000], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        first = await hold(slot, engine)
        both = [ask(slot, rows(*range(6))), ask(slot, rows(50, 51))]
        await until(lambda: slot.num_waiting == 8)
        engine.gate.set()
        await asyncio.gather(first, *both)
    assert seen(engine)[5:] == [[0, 1, 2, 3], [50, 51, 4, 5]]


@on_a_loop
async def test_a_large_request_that_is_cancelled_is_not_inferred_to_its_end():
    engine = Multiplier()
    async with serving(engine, max_batch_size=2) as slot:
        engine.gate.clear()
        large = ask(slot, rows(1, 2, 3, 4, 5, 6))
        await until(lambda: engine.at_once)
        large.cancel()
        await asyncio.wait([large])
        engine.gate.set()
        await slot.predict(slot.current, rows(7), exchange())
    assert seen(engine) == [[1, 2], [7]]


@on_a_loop
async def test_the_line_keeps_nothing_of_what_has_left_it():
    model = model_of(Multiplier())
    line = Line(4)
    loop = asyncio.get_running_loop()
    for number in range(20):
        request = Waiting(model=model, exchange=exchange(), loop=loop)
        request.set_inputs({"number": np.zeros((1, number + 1))})
        line.add(request)
        if number % 2:
            line.drop(request)
        else:
            assert line.take().requests == (request,)
    assert (line.num_samples, line.num_bytes, line.take()) == (0, 0, None)
    assert (len(line._groups), len(line._arrivals)) == (0, 0)


@on_a_loop
async def test_a_request_that_the_model_refuses_does_not_fail_those_it_went_with():
    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        tasks = [ask(slot, rows(value)) for value in (1, REFUSED, 2, FATAL)]
        await until(lambda: slot.num_waiting == 4)
        engine.gate.set()
        _, good, refused, better, failed = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [good["scaled"].tolist(), better["scaled"].tolist()] == [[[2.0]], [[4.0]]]
        assert isinstance(refused, RequestError)
        assert isinstance(failed, PredictionError)
        assert "out of everything" not in str(failed)
        assert (await slot.predict(slot.current, rows(3), exchange()))["scaled"].tolist() == [[6.0]]


@on_a_loop
async def test_a_body_that_cannot_be_decoded_is_its_senders_error_alone():
    engine = Multiplier()

    def refuse() -> Parsed:
        raise RequestError("This is no image.")

    async with serving(engine) as slot:
        with pytest.raises(RequestError, match="no image"):
            await slot.decode_and_predict(slot.current, exchange(), 10, refuse)
        with pytest.raises(RequestError, match="no image"):
            await slot.decode(refuse)
        assert slot.num_waiting == 0


@pytest.mark.parametrize(
    "inputs",
    [{}, {"number": np.zeros((2, 1)), "word": np.zeros(3)}, {"number": np.zeros((0, 1))}, {"number": np.float32(1).reshape(())}],
)
@on_a_loop
async def test_arrays_that_are_not_of_one_number_of_samples_never_reach_the_model(inputs):
    engine = Multiplier()
    async with serving(engine) as slot:
        with pytest.raises(RequestError, match="the same number in each"):
            await slot.predict(slot.current, inputs, exchange())
    assert engine.batches == []


@on_a_loop
async def test_a_request_keeps_the_model_that_it_began_with_and_an_old_model_is_freed_with_its_last_request():
    old, new = Multiplier(2.0), Multiplier(3.0)
    freed = weakref.ref(old)
    slot = ModelSlot(model_of(old))
    first = await hold(slot, old)
    before = ask(slot, rows(1))
    await until(lambda: slot.num_waiting == 1)
    slot.swap(model_of(new, "2"))
    after = ask(slot, rows(1))
    await until(lambda: slot.num_waiting == 2)
    old.gate.set()
    answers = await asyncio.gather(before, after)
    assert [answer["scaled"].tolist() for answer in answers] == [[[2.0]], [[3.0]]]
    await asyncio.gather(first, *(slot.predict(model_of(old), rows(1), exchange()) for _ in range(10)))  # the threads' last work
    gc.disable()  # it goes by itself, not when the collector finds it
    try:
        del old, first, before, after, answers
        await until(lambda: freed() is None)
    finally:
        gc.enable()
        slot.close()


@on_a_loop
async def test_closing_answers_what_waits_and_refuses_what_comes_later():
    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        waiting = ask(slot, rows(1))
        await until(lambda: slot.num_waiting == 1)
        closing = asyncio.create_task(asyncio.to_thread(slot.close))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            await slot.predict(slot.current, rows(2), exchange())
        engine.gate.set()
        await asyncio.gather(first, waiting, closing)
        assert waiting.result()["scaled"].tolist() == [[2.0]]


@on_a_loop
async def test_what_is_not_decoded_yet_is_answered_too_when_it_closes():
    engine = Multiplier()
    release = threading.Event()

    def decode() -> Parsed:
        assert release.wait(WAIT_SECONDS)
        return Parsed(rows(3))

    async with serving(engine) as slot:
        undecoded = asyncio.create_task(slot.decode_and_predict(slot.current, exchange(), 10, decode))
        await until(lambda: slot.num_waiting == 1)
        closing = asyncio.create_task(asyncio.to_thread(slot.close))
        await asyncio.sleep(0.01)
        release.set()
        _, outputs = await undecoded
        await closing
    assert outputs["scaled"].tolist() == [[6.0]]


@on_a_loop
async def test_a_refused_body_leaves_memory_at_once():
    engine = Multiplier()
    bodies = []

    def refuse(body: NDArray[Any]) -> Parsed:
        try:
            raise ValueError("inside")
        except ValueError:
            raise RequestError(f"{len(body)} bytes are no image.") from None

    async with serving(engine) as slot:
        gc.disable()
        try:
            for _ in range(3):
                body = np.zeros(1000)
                bodies.append(weakref.ref(body))
                with pytest.raises(RequestError):
                    await slot.decode_and_predict(slot.current, exchange(), len(body), refuse, body)
                del body
            await slot.predict(slot.current, rows(1), exchange())
            assert [body() for body in bodies] == [None] * 3
        finally:
            gc.enable()


@on_a_loop
async def test_the_event_loop_goes_on_while_the_model_and_decoding_are_busy():
    engine = Multiplier()
    release = threading.Event()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        decodes = [asyncio.create_task(slot.decode(release.wait, WAIT_SECONDS)) for _ in range(8)]
        await asyncio.wait_for(asyncio.sleep(0.01), 1)
        assert not any(task.done() for task in (first, *decodes))
        release.set()
        engine.gate.set()
        await asyncio.gather(first, *decodes)


VALUES = st.floats(width=32, min_value=0, max_value=2**20) | st.just(float("nan"))
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "values": st.lists(VALUES | st.just(REFUSED), min_size=1, max_size=9),
            "width": st.integers(1, 2),
            "is_decoded": st.booleans(),
            "is_cancelled": st.booleans(),
            "pause": st.integers(0, 2),
            "swap": st.booleans(),
        }
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(requests=REQUESTS, max_batch_size=st.integers(1, 8), num_workers=st.integers(2, 4))
def test_whatever_comes_each_request_gets_the_answer_to_its_own_question(requests, max_batch_size, num_workers):
    @on_a_loop
    async def run() -> None:
        engine = Multiplier(1.0)
        async with serving(engine, max_batch_size=max_batch_size, num_workers=num_workers) as slot:
            tasks = []
            for number, request in enumerate(requests):
                if request["swap"]:
                    slot.swap(model_of(Multiplier(float(number + 2))))
                inputs = rows(*request["values"], width=request["width"])
                inputs["word"] = np.array([f"{number}/{row}" for row in range(len(request["values"]))], object)
                work = (
                    slot.predict(slot.current, inputs, exchange())
                    if request["is_decoded"]
                    else _decode_and_predict(slot, slot.current, inputs)
                )
                tasks.append((asyncio.create_task(work), inputs, slot.current.engine.factor, request))
                for _ in range(request["pause"]):
                    await asyncio.sleep(0)
                if request["is_cancelled"]:
                    tasks[-1][0].cancel()
            await asyncio.gather(*(task for task, *_ in tasks), return_exceptions=True)
            for task, inputs, factor, request in tasks:
                if task.cancelled():
                    assert request["is_cancelled"]
                elif REFUSED in request["values"]:
                    assert isinstance(task.exception(), RequestError)
                else:
                    outputs = task.result()
                    np.testing.assert_array_equal(outputs["scaled"], inputs["number"] * np.float32(factor))
                    assert outputs["word"].tolist() == inputs["word"].tolist()
            assert slot.num_waiting == 0
            assert engine.most_at_once <= 1
            assert all(len(batch) <= max_batch_size for batch in engine.batches)

    run()


async def _decode_and_predict(slot: ModelSlot, model: LoadedModel, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    _, outputs = await slot.decode_and_predict(model, exchange(), 10, lambda: Parsed(inputs))
    return outputs
