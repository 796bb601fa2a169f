import asyncio
from dataclasses import replace

from slipway.errors import OverloadedError
from slipway.export.golden import GoldenExample
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.inference.batching import BatchOptions
from slipway.serving.inference.model import ModelSlot
from slipway.serving.inference.warming import BatchSizes
from tests.unit.serving.batching.multiplier import (
    SIGNATURE,
    Multiplier,
    Parsed,
    ask,
    exchange,
    hold,
    model_of,
    num_in_line,
    on_a_loop,
    rows,
    seen,
    serving,
    until,
)


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

    def prepare(self, inputs, make_room=None):
        return {"number": inputs["number"][:, :1], "word": inputs["word"]}

    def warm_up(self, inputs, num_predictions=3):
        self.prepared.append(len(inputs["number"]))


@on_a_loop
async def test_samples_of_several_sizes_go_together_where_the_engine_brings_them_to_one_size():
    engine = Cropping()
    async with serving(engine) as slot:
        first = await hold(slot, engine)
        seen_together = [ask(slot, rows(value, width=width)) for value, width in ((1, 2), (2, 1), (3, 3))]
        await until(lambda: num_in_line(slot) == 3)
        engine.gate.set()
        answers = await asyncio.gather(*seen_together)
        await first
    assert seen(engine) == [[1000], [1, 2, 3]]
    assert [answer["scaled"].tolist() for answer in answers] == [[[2.0]], [[4.0]], [[6.0]]]


@on_a_loop
async def test_what_the_engine_makes_smaller_counts_as_it_came_for_that_stays_in_memory():
    engine = Cropping()
    async with serving(engine, max_queue_bytes=10_000) as slot:
        first = await hold(slot, engine)
        large = [decode_later(slot, rows(value, width=2000)) for value in (1, 2)]
        await until(large[1].done)
        small = decode_later(slot, rows(3))
        await until(lambda: num_in_line(slot) == 2)
        engine.gate.set()
        answers = await asyncio.gather(*large, small, first, return_exceptions=True)
    assert [isinstance(answer, OverloadedError) for answer in answers] == [False, True, False, False]


def decode_later(slot, inputs):
    return asyncio.create_task(slot.decode_and_predict(slot.current, exchange(), 10, lambda: Parsed(inputs)))


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
        await until(lambda: num_in_line(slot) == 8)
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
