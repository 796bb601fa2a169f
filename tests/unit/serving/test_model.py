import asyncio
import gc
import os
import resource
import weakref
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from slipway.errors import BundleError, NotServedError
from slipway.export.bundle import read_bundle
from slipway.serving.exchange import Exchange
from slipway.serving.inference.model import ModelSlot, load_model

NUM_SWAPS = 12
ALLOWED_BYTES = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def bundle(write_image_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("model") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


def test_a_model_that_answers_otherwise_than_the_one_that_was_evaluated_is_not_loaded(write_image_bundle, bundle, tmp_path):
    write_image_bundle(tmp_path / "other", seed=1, golden_from=bundle.root)
    with pytest.raises(BundleError, match=r"Golden example 1 of 3, probabilities: the answer differs by .*wrongly"):
        load_model(tmp_path / "other", name="colors", version="1")


def test_a_model_answers_to_its_name_and_version_alone(bundle):
    model = load_model(bundle.root, name="colors", version="7")
    model.check_name("colors", None)
    model.check_name("colors", "7")
    with pytest.raises(NotServedError, match="'shades' is not served here; accepted: colors"):
        model.check_name("shades", None)
    with pytest.raises(NotServedError, match="Version '8' of colors is not served here; accepted: 7"):
        model.check_name("colors", "8")
    model.check_probe("colors", "7")
    for name, version in (("shades", None), ("shades", "7"), ("colors", "8")):
        with pytest.raises(NotServedError, match="is not served here; accepted: the name and the version that") as error:
            model.check_probe(name, version)
        assert name == "colors" or "colors" not in str(error.value)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_requests_are_answered_through_many_swaps_and_old_models_leave_memory(bundle, engine):
    examples = bundle.golden

    async def swap_under_load() -> None:
        slot = ModelSlot(load_model(bundle.root, name="colors", version="0", engine=engine))
        done = False

        async def keep_asking(number: int) -> int:
            answered = 0
            while not done:
                example = examples[(number + answered) % len(examples)]
                model = slot.current
                exchange = Exchange(request_id="r", wire="v2", received_at=perf_counter())
                outputs = await slot.predict(model, example.inputs, exchange)
                np.testing.assert_allclose(outputs["probabilities"], example.outputs["probabilities"], atol=1e-5)
                answered += 1
            return answered

        clients = [asyncio.create_task(keep_asking(number)) for number in range(4)]
        try:
            memory = 0
            engines = []
            for number in range(NUM_SWAPS):
                if number == NUM_SWAPS // 2:
                    memory = resident_bytes()
                model = await asyncio.to_thread(load_model, bundle.root, name="colors", version=f"{number}", engine=engine)
                slot.swap(model)
                engines.append(weakref.ref(model.engine))
                del model
            done = True
            assert min(await asyncio.gather(*clients)) > 0
            await asyncio.to_thread(slot.close)
            async with asyncio.timeout(20):
                while any(engine() is not None for engine in engines[:-1]):  # one may still be in a warm-up
                    await asyncio.sleep(0.05)
                    gc.collect()
            assert resident_bytes() - memory < ALLOWED_BYTES
        finally:
            done = True
            slot.close()

    asyncio.run(swap_under_load())


def resident_bytes() -> int:
    return int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1]) * resource.getpagesize()
