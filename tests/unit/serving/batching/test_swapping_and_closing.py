import asyncio
import gc
import threading
import weakref

import pytest

from slipway.errors import OverloadedError
from slipway.serving.inference.model import ModelSlot
from tests.unit.serving.batching.multiplier import (
    WAIT_SECONDS,
    Multiplier,
    Parsed,
    ask,
    exchange,
    hold,
    model_of,
    on_a_loop,
    rows,
    serving,
    until,
)


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
        await until(lambda: slot._batcher._closed)
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
        await until(lambda: slot._batcher._closed)
        release.set()
        _, outputs = await undecoded
        await closing
    assert outputs["scaled"].tolist() == [[6.0]]
