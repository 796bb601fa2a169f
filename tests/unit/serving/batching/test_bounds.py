import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slipway.errors import OverloadedError, RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.inference.waiting import Line, Waiting
from tests.unit.serving.batching.multiplier import (
    SIGNATURE,
    Multiplier,
    Parsed,
    ask,
    exchange,
    hold,
    model_of,
    on_a_loop,
    rows,
    seen,
    serving,
    until,
)


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
        await until(lambda: slot.num_waiting == 30)  # the eighth may be on its way from the one count to the other
        engine.gate.set()
        answers = await asyncio.gather(*tasks, first)
    assert [outputs["scaled"].tolist() for _, outputs in answers[:-1]] == [[[2.0 * value]] for value in range(30)]


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
            await until(lambda: all(body() is None for body in bodies))  # the thread that refused is on its way out
        finally:
            gc.enable()


class Enlarging(Multiplier):
    """Makes a thousand bytes of each sample."""

    signature = Signature(inputs=(TensorSpec(name="number", dtype="float32", shape=(None, None)),), outputs=SIGNATURE.outputs)

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[int] = []

    def prepare(self, inputs, make_room=None):
        make_room(1000 * len(inputs["number"]))
        self.prepared.append(len(inputs["number"]))
        return {"number": np.repeat(inputs["number"], 250, axis=1), "word": inputs["word"]}


def send(slot, inputs):
    return asyncio.create_task(slot.decode_and_predict(slot.current, exchange(), 10, lambda: Parsed(inputs)))


@on_a_loop
async def test_samples_that_the_engine_would_make_too_large_are_refused_before_it_makes_them():
    engine = Enlarging()
    async with serving(engine, max_queue_bytes=10_120) as slot:
        for ask_for in (send, ask):
            with pytest.raises(RequestError, match=r"11 samples need 11132 bytes.*at most 10120 bytes, 10 samples"):
                await ask_for(slot, rows(*range(11)))
        assert engine.prepared == []
        await send(slot, rows(*range(10)))
        assert (engine.prepared, slot.num_waiting) == ([10], 0)


@on_a_loop
async def test_there_is_room_for_what_the_engine_makes_larger_before_it_makes_it():
    engine = Enlarging()
    async with serving(engine, max_queue_bytes=10_120, max_batch_size=4) as slot:
        engine.gate.clear()
        first = send(slot, rows(*range(6)))
        await until(lambda: engine.at_once)  # with four samples; two are left
        with pytest.raises(OverloadedError, match="4 are in it"):
            await send(slot, rows(*range(5)))
        assert engine.prepared == [6]
        second = send(slot, rows(1, 2, 3))
        await until(lambda: engine.prepared == [6, 3])
        engine.gate.set()
        await asyncio.gather(first, second)
        await send(slot, rows(*range(10)))
        assert slot.num_waiting == 0
