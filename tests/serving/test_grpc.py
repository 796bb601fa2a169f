"""Answers over gRPC: to the official clients, in the form that they were asked in."""

import asyncio
import json
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from slipway.export.bundle import Bundle, read_bundle
from slipway.serving.grpc.messages import (
    HealthCheckRequest,
    HealthCheckResponse,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
)
from tests.bundles import write_table_bundle
from tests.serving.grpc_calls import INFERENCE, WAIT_SECONDS, call, image_request, refusal

TRITON_SCRIPT = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

port, pixels = sys.argv[1], np.load(sys.argv[2])
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
image = triton.InferInput("image", list(pixels.shape), "UINT8")
image.set_data_from_numpy(pixels)
top = triton.InferRequestedOutput("probabilities", class_count=2)
answer = client.infer("model", [image], request_id="r-1")
try:
    client.infer("other", [image])
except triton.InferenceServerException as error:
    refused = [error.status(), error.message()]
print(json.dumps({
    "live": client.is_server_live(), "ready": client.is_server_ready(), "model": client.is_model_ready("model", "1"),
    "server": client.get_server_metadata().name, "platform": client.get_model_metadata("model").platform,
    "answer": answer.as_numpy("probabilities").tolist(), "id": answer.get_response().id,
    "top": [text.decode() for text in client.infer("model", [image], outputs=[top]).as_numpy("probabilities")[0]],
    "refused": refused,
}))
"""


def test_the_golden_examples_are_answered_in_the_form_that_they_are_asked_in(channel, image_bundle):
    for golden in image_bundle.golden:
        pixels, expected = golden.inputs["image"], golden.outputs["probabilities"]
        for raw in (True, False):
            answer = call(channel, "ModelInfer", image_request(pixels, raw=raw, id="q"), ModelInferResponse)
            (tensor,) = answer.outputs
            given = np.frombuffer(answer.raw_output_contents[0], "<f4") if raw else np.array(tensor.contents.fp32_contents)
            assert (len(answer.raw_output_contents), len(tensor.contents.fp32_contents)) == ((1, 0) if raw else (0, 3))
            np.testing.assert_allclose(given, expected.ravel(), atol=1e-5)
            assert (answer.model_name, answer.model_version, answer.id) == ("model", "1", "q")
            assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("probabilities", "FP32", [1, 3])


def test_the_official_kserve_client_gets_what_rest_answers(grpc_predictor, example):
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    pixels, expected = example

    async def ask() -> list[Any]:
        async with InferenceGRPCClient(f"127.0.0.1:{grpc_predictor.grpc_port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("model")
            answers = []
            for binary in (True, False):
                tensor = InferInput("image", list(pixels.shape), "UINT8")
                tensor.set_data_from_numpy(pixels, binary_data=binary)
                answers.append(await client.infer(InferRequest(model_name="model", infer_inputs=[tensor], request_id="k")))
            return answers

    for answer in asyncio.run(ask()):
        assert (answer.id, answer.model_name, answer.model_version) == ("k", "model", "1")
        np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected, atol=1e-5)


def test_tritons_client_gets_answers_classes_and_refusals(grpc_predictor, example, tmp_path):
    pixels, expected = example
    np.save(tmp_path / "pixels.npy", pixels)
    # in a process of its own: its messages and those of kserve cannot be in one
    told = subprocess.run(
        [sys.executable, "-c", TRITON_SCRIPT, str(grpc_predictor.grpc_port), str(tmp_path / "pixels.npy")],
        capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    answer = json.loads(told)
    assert (answer["live"], answer["ready"], answer["model"], answer["server"]) == (True, True, True, "slipway")
    assert (answer["platform"], answer["id"]) == ("onnx", "r-1")
    np.testing.assert_allclose(answer["answer"], expected, atol=1e-5)
    assert answer["top"][0].endswith(f":{expected.argmax()}:{('dark', 'bright', 'red')[expected.argmax()]}")
    assert len(answer["top"]) == 2
    assert answer["refused"] == ["StatusCode.NOT_FOUND", "Model 'other' is not served here; accepted: model."]


def test_metadata_health_and_readiness_are_told(channel):
    metadata = call(channel, "ModelMetadata", ModelMetadataRequest(name="model"), ModelMetadataResponse)
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("image", "UINT8", [-1, -1, -1, 3])
    ]
    assert [tensor.name for tensor in metadata.outputs] == ["probabilities"]
    assert (metadata.name, list(metadata.versions)) == ("model", ["1"])
    for service in ("", "inference.GRPCInferenceService"):
        health = call(channel, "/grpc.health.v1.Health/Check", HealthCheckRequest(service=service), HealthCheckResponse)
        assert health.status == 1
    assert call(channel, "ModelReady", ModelReadyRequest(name="model", version="1"), ModelReadyResponse).ready
    assert refusal(channel, "ModelReady", ModelReadyRequest(name="model", version="2"))[0] == grpc.StatusCode.NOT_FOUND
    assert refusal(channel, "ServerDance")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_request_id_and_version_stand_beside_the_answer(channel, example):
    method = channel.unary_unary(INFERENCE + "ModelInfer")
    body = image_request(example[0]).SerializeToString()
    _, finished = method.with_call(body, metadata=(("x-request-id", "mine"),), timeout=WAIT_SECONDS)
    assert dict(finished.trailing_metadata()) == {"x-request-id": "mine", "x-model-version": "1"}


def test_the_messages_id_stands_beside_a_refusal_too(channel):
    request = ModelInferRequest(model_name="model", id="message's")
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(INFERENCE + "ModelInfer")(
            request.SerializeToString(), metadata=(("x-request-id", "mine"),), timeout=WAIT_SECONDS
        )
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(refused.value.trailing_metadata())["x-request-id"] == "message's"


def test_many_clients_at_once_get_their_own_answers(channel, image_bundle):
    def ask(number: int) -> None:
        golden = image_bundle.golden[number % len(image_bundle.golden)]
        answer = call(channel, "ModelInfer", image_request(golden.inputs["image"], id=f"{number}"), ModelInferResponse)
        assert answer.id == f"{number}"
        given = np.frombuffer(answer.raw_output_contents[0], "<f4")
        np.testing.assert_allclose(given, golden.outputs["probabilities"].ravel(), atol=1e-5)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(300)))


def test_strings_and_missing_numbers_go_through_both_forms(start, tmp_path):
    write_table_bundle(tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    table = start(bundle.root, "--grpc-port", "0", name="towns")
    with grpc.insecure_channel(f"127.0.0.1:{table.grpc_port}") as channel:
        for golden in bundle.golden:
            for raw in (True, False):
                answer = call(channel, "ModelInfer", table_request(bundle, golden.inputs, raw=raw), ModelInferResponse)
                (tensor,) = answer.outputs
                given = np.frombuffer(answer.raw_output_contents[0], "<f4") if raw else np.array(tensor.contents.fp32_contents)
                np.testing.assert_allclose(given, golden.outputs["probabilities"].ravel(), atol=1e-5)
        missing = {
            spec.name: np.array([""], object) if spec.dtype == "string" else np.array([np.nan], np.float32)
            for spec in bundle.info.signature.inputs
        }
        assert call(channel, "ModelInfer", table_request(bundle, missing, raw=False), ModelInferResponse).outputs


def table_request(bundle: Bundle, inputs: dict[str, np.ndarray], *, raw: bool) -> Any:
    request = ModelInferRequest(model_name="towns")
    for spec in bundle.info.signature.inputs:
        array = inputs[spec.name]
        strings = [str(value).encode() for value in array] if spec.dtype == "string" else []
        tensor = request.inputs.add(name=spec.name, datatype="BYTES" if strings else "FP32", shape=array.shape)
        if raw:
            packed = b"".join(struct.pack("<I", len(text)) + text for text in strings)
            request.raw_input_contents.append(packed if strings else array.astype("<f4").tobytes())
        elif strings:
            tensor.contents.bytes_contents.extend(strings)
        else:
            tensor.contents.fp32_contents.extend(array.tolist())
    return request
