"""Answers over HTTP and gRPC: where they are written, and what is told of their times."""

import asyncio
import base64
import gc
import io
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
from grpc import aio
from numpy.typing import NDArray
from PIL import Image

from slipway.export.signature import Signature, TensorSpec
from slipway.serving.grpc.messages import ModelInferRequest, ModelInferResponse
from slipway.serving.grpc.reception import Reception
from slipway.serving.grpc.service import InferenceService
from slipway.serving.http.answering import Answering
from slipway.serving.http.app import Application
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.messages import Request
from slipway.serving.inference.batching import BatchOptions
from slipway.serving.inference.model import LoadedModel, ModelSlot, load_model
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.access import Access
from slipway.serving.process.options import AccessOptions
from tests.unit.serving.batching.multiplier import WAIT_SECONDS, Multiplier, exchange, model_of, on_a_loop, until

NUM_CLASSES = 30_000
OPTIONS = AppOptions(max_body_bytes=1_000_000)
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Names(tuple):
    """Names of classes that note which threads have looked at them."""

    def __new__(cls, names: list[str]) -> "Names":
        made = super().__new__(cls, names)
        made.threads = set()
        return made

    def __iter__(self) -> Any:
        self.threads.add(threading.get_ident())
        return super().__iter__()

    def __getitem__(self, key: Any) -> Any:
        self.threads.add(threading.get_ident())
        return super().__getitem__(key)


class Classifier(Multiplier):
    """The first class is the most probable of as many as are asked for."""

    signature = Signature(
        inputs=(TensorSpec(name="number", dtype="float32", shape=(None, 1)),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, None)),),
    )

    def predict_prepared(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        num_classes = int(inputs["number"][0, 0])
        return {"probabilities": np.tile(np.linspace(1, 0, num_classes, dtype=np.float32), (len(inputs["number"]), 1))}


def classifier() -> tuple[LoadedModel, Names]:
    names = Names([f"c{number}" for number in range(NUM_CLASSES)])
    model = model_of(Classifier())
    return replace(model, info=replace(model.info, class_names=names)), names


async def answer_http(slot: ModelSlot, protocol: Any, content: Any) -> tuple[bytes, Any]:
    body = orjson.dumps(content)
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Event().wait()

    request = Request({"method": "POST", "path": "/", "headers": []}, receive)
    asked = exchange()
    response, _, _ = await Answering(slot, OPTIONS).answer(request, receive, protocol, slot.current, asked)
    return response.body, asked


async def classify_over_http(slot: ModelSlot, num_classes: int) -> bytes:
    tensor = {"name": "number", "datatype": "FP32", "shape": [1, 1], "data": [num_classes]}
    wanted = {"name": "probabilities", "parameters": {"classification": 1}}
    body, _ = await answer_http(slot, "v2", {"inputs": [tensor], "outputs": [wanted]})
    told: str = orjson.loads(body)["outputs"][0]["data"][0]
    return told.encode()


async def classify_over_grpc(slot: ModelSlot, num_classes: int) -> bytes:
    places = Reception(2, message_seconds=WAIT_SECONDS, call_seconds=WAIT_SECONDS)
    service = InferenceService(slot, OPTIONS, Access(AccessOptions()), (), Refusals(), reception=places, probe_reception=places)
    server = aio.server(handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="number", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(num_classes)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1

    def ask() -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = channel.unary_unary(INFER)(request.SerializeToString(), timeout=WAIT_SECONDS)
        told: bytes = ModelInferResponse.FromString(answer).outputs[0].contents.bytes_contents[0]
        return told

    try:
        return await asyncio.to_thread(ask)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("classify", [classify_over_http, classify_over_grpc])
@on_a_loop
async def test_a_large_answer_is_written_off_the_event_loop_and_a_small_one_on_it(classify):
    model, names = classifier()
    slot = ModelSlot(model)
    try:
        for num_classes, is_on_loop in ((10, True), (NUM_CLASSES, False)):
            names.threads.clear()
            assert await classify(slot, num_classes) == b"1.000000:0:c0"
            assert (names.threads == {threading.get_ident()}) is is_on_loop
    finally:
        await asyncio.to_thread(slot.close)


async def read_document(app: Application) -> dict[str, Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return await asyncio.Event().wait()

    await app({"type": "http", "method": "GET", "path": "/openapi.json", "headers": []}, receive, send)
    document: dict[str, Any] = orjson.loads(sent[1]["body"])
    return document


@on_a_loop
async def test_the_openapi_document_is_made_off_the_event_loop_once_for_each_model_and_keeps_none_in_memory():
    model, names = classifier()
    slot = ModelSlot(model)
    old = weakref.ref(model)

    def is_freed() -> bool:
        gc.collect()
        return old() is None

    try:
        app = Application(slot, OPTIONS, ())
        first = await read_document(app)
        assert names.threads
        assert threading.get_ident() not in names.threads
        names.threads.clear()
        assert await read_document(app) == first
        assert not names.threads
        slot.swap(replace(model, version="2"))
        del model
        await until(is_freed)  # the thread that made the document may be on its way out
        assert "/v2/models/m/versions/2" in (await read_document(app))["paths"]
    finally:
        await asyncio.to_thread(slot.close)


def encode(width: int) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (width, 3)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


@on_a_loop
async def test_the_time_to_decode_images_of_several_sizes_is_told_without_the_wait_for_a_thread(write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "bundle")
    slot = ModelSlot(load_model(tmp_path / "bundle", name="colors", version="1"), BatchOptions(num_workers=2))
    release = threading.Event()
    try:
        holding = [asyncio.create_task(slot.decode(release.wait, WAIT_SECONDS)) for _ in range(2)]
        content = {"instances": [{"b64": encode(3)}, {"b64": encode(4)}]}
        answering = asyncio.create_task(answer_http(slot, "v1", content))
        await asyncio.sleep(0.1)
        released_at = perf_counter()
        release.set()
        await asyncio.gather(*holding)
        _, asked = await answering
        assert asked.num_samples == 2
        assert min(asked.decode_seconds, asked.queue_seconds, asked.inference_seconds) > 0
        assert released_at <= asked.decoded_at - asked.decode_seconds
        assert asked.decoded_at + asked.queue_seconds + asked.inference_seconds <= perf_counter()
    finally:
        release.set()
        await asyncio.to_thread(slot.close)
