import asyncio
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipway.errors import PredictionError, RequestError
from slipway.serving.inference.model import LoadedModel, ModelSlot
from tests.unit.serving.batching.multiplier import (
    FATAL,
    REFUSED,
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


VALUES = st.floats(width=32, min_value=0, max_value=2**20) | st.just(float("nan"))
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "values": st.lists(VALUES | st.sampled_from([REFUSED, FATAL]), min_size=1, max_size=9),
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
                elif FATAL in request["values"]:
                    assert isinstance(task.exception(), PredictionError)
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
