import asyncio
import gc
import threading
from contextlib import nullcontext

import pytest

from slipway.errors import RequestError
from tests.unit.serving.batching.multiplier import (
    WAIT_SECONDS,
    Multiplier,
    Parsed,
    exchange,
    hold,
    on_a_loop,
    rows,
    serving,
    until,
)


@on_a_loop
async def test_a_lone_request_waits_for_nobody_and_is_decoded_and_inferred_by_one_thread():
    engine = Multiplier()
    threads = []

    def decode(value: float) -> Parsed:
        threads.append(threading.current_thread().name)
        return Parsed(rows(value, value))

    async with serving(engine) as slot:
        await until(lambda: slot._batcher._num_idle == 2)  # a thread that only begins would take over what the other decoded
        asked = exchange()
        parsed, outputs = await slot.decode_and_predict(slot.current, asked, 10, decode, 4.0)
        assert threads == engine.threads != [threading.current_thread().name]
        assert outputs["scaled"][:, 0].tolist() == [8, 8]
        assert (parsed.inputs["number"].shape, asked.num_samples, asked.batch_size) == ((2, 1), 2, 2)
        assert min(asked.decode_seconds, asked.queue_seconds, asked.inference_seconds) > 0
        assert await slot.decode(threading.get_ident) != threading.get_ident()


@on_a_loop
async def test_the_event_loop_goes_on_while_the_model_and_decoding_are_busy():
    engine = Multiplier()
    release = threading.Event()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        decodes = [asyncio.create_task(slot.decode(release.wait, WAIT_SECONDS)) for _ in range(8)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in (first, *decodes))
        release.set()
        engine.gate.set()
        await asyncio.gather(first, *decodes)


@pytest.mark.parametrize("is_accepted", [True, False])
@on_a_loop
async def test_no_search_for_cycles_goes_on_while_a_body_becomes_millions_of_values(is_accepted):
    searches = []

    def decode() -> Parsed:
        end_searches()
        searches.clear()
        values = [[] for _ in range(100_000)]
        if not is_accepted:
            raise RequestError(f"{len(values)} values and {len(searches)} searches")
        return Parsed(rows(len(searches)))

    def note(phase: str, _info: dict[str, int]) -> None:
        searches.append(phase)

    gc.callbacks.append(note)
    try:
        async with serving(Multiplier()) as slot:
            with nullcontext() if is_accepted else pytest.raises(RequestError, match="100000 values and 0 searches"):
                parsed, _ = await slot.decode_and_predict(slot.current, exchange(), 10, decode)
                assert parsed.inputs["number"].tolist() == [[0]]
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(note)


def end_searches() -> None:
    """Return once no other thread is in the middle of a search, and what it reports is reported."""
    while True:
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        if gc.collect():  # it finds nothing while another one goes on
            return
