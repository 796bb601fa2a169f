import asyncio

import numpy as np
import pytest
from structlog.testing import capture_logs

from slipway.errors import PredictionError, RequestError
from tests.unit.serving.batching.multiplier import (
    FATAL,
    REFUSED,
    Multiplier,
    Parsed,
    ask,
    exchange,
    hold,
    on_a_loop,
    rows,
    serving,
    until,
)


@on_a_loop
async def test_a_request_that_the_model_refuses_or_fails_on_does_not_fail_those_beside_it():
    engine = Multiplier()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        tasks = [ask(slot, rows(value)) for value in (1, REFUSED, 2, FATAL)]
        await until(lambda: slot.num_waiting == 3 and tasks[1].done())
        engine.gate.set()
        _, good, refused, better, failed = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [good["scaled"].tolist(), better["scaled"].tolist()] == [[[2.0]], [[4.0]]]
        assert isinstance(refused, RequestError)
        assert isinstance(failed, PredictionError)
        assert "out of everything" not in str(failed)
        assert (await slot.predict(slot.current, rows(3), exchange()))["scaled"].tolist() == [[6.0]]


@on_a_loop
async def test_the_log_names_the_requests_that_the_model_failed_on():
    engine = Multiplier()
    with capture_logs() as events:
        async with serving(engine) as slot:
            first = await hold(slot, engine)
            asked = [exchange(f"order-{number}") for number in range(2)]
            tasks = [
                asyncio.create_task(slot.predict(slot.current, rows(value), one))
                for value, one in zip((1, FATAL), asked, strict=True)
            ]
            await until(lambda: slot.num_waiting == 2)
            engine.gate.set()
            await asyncio.gather(first, *tasks, return_exceptions=True)
    told = [(event["event"], event.get("request_id") or event.get("request_ids")) for event in events]
    assert told == [("batch_taken_apart", ["order-0", "order-1"]), ("prediction_failed", "order-1")]


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
