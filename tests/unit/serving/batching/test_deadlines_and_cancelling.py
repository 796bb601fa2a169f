import asyncio
from time import perf_counter

import pytest

from slipway.errors import DeadlineError
from slipway.serving.exchange import Exchange
from tests.unit.serving.batching.multiplier import (
    WAIT_SECONDS,
    Multiplier,
    Parsed,
    ask,
    exchange,
    hold,
    on_a_loop,
    rows,
    seen,
    serving,
    until,
)


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
async def test_the_deadline_that_a_body_states_holds_once_it_is_decoded():
    def decode(asked: Exchange, seconds: float, value: float) -> Parsed:
        asked.limit_to(seconds)
        return Parsed(rows(value))

    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        for seconds in (0.0, 0.05):
            asked = exchange(deadline=perf_counter() + WAIT_SECONDS)
            with pytest.raises(DeadlineError, match="deadline"):
                await slot.decode_and_predict(slot.current, asked, 10, decode, asked, seconds, 2.0)
        patient = exchange(deadline=perf_counter() + 0.5)  # by then it is decoded, on a slow machine too
        answer = asyncio.create_task(slot.decode_and_predict(slot.current, patient, 10, decode, patient, WAIT_SECONDS, 3.0))
        await asyncio.sleep(0.6)
        engine.gate.set()
        await asyncio.gather(first, answer)
    assert seen(engine) == [[1000], [3]]


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
