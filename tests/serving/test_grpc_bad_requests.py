"""Requests over gRPC that are refused: for what they say, their size, or the time that they leave."""

from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.serving.grpc.messages import ModelInferRequest, ModelInferResponse, ServerReadyResponse
from tests.serving.grpc_calls import call, image_request, refusal

MIB = 2**20
ACCEPTABLE = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


def _edited(edit: Callable[[Any], object]) -> Any:
    request = image_request(np.zeros((1, 2, 2, 3), np.uint8))
    edit(request)
    return request


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"\xff\xff", "no ModelInferRequest"),
        (_edited(lambda it: it.inputs[0].ClearField("shape")), "inputs[0] (image).shape is []"),
        (_edited(lambda it: setattr(it.inputs[0], "datatype", "FP32")), "datatype is 'FP32'; accepted: UINT8"),
        (_edited(lambda it: setattr(it.inputs[0], "name", "picture")), "inputs[0].name is 'picture'; accepted: image"),
        (_edited(lambda it: it.inputs.pop()), "raw_input_contents has 1 entries; accepted: one for each of the 0 inputs"),
        (_edited(lambda it: it.raw_input_contents.pop()), "contents is empty; accepted: uint_contents, or raw_input_contents"),
        (_edited(lambda it: it.raw_input_contents.append(b"")), "raw_input_contents has 2 entries"),
        (_edited(lambda it: it.inputs[0].contents.uint_contents.append(1)), "accepted: one of the two"),
        (_edited(lambda it: it.inputs[0].shape.append(2**62)), "shape is"),
        (_edited(lambda it: it.outputs.add(name="logits")), "'logits'; accepted: probabilities"),
        (ModelInferRequest(model_name="model"), "inputs lacks image"),
    ],
)
def test_a_bad_request_is_an_invalid_argument_with_a_sentence(channel, request_, told):
    code, sentence = refusal(channel, "ModelInfer", request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert told in sentence


def test_the_sentence_is_the_one_that_rest_says(grpc_predictor, channel):
    tensor = {"name": "image", "shape": [1, 2], "datatype": "UINT8", "data": [1, 2]}
    answer = httpx.post(grpc_predictor.infer_url, json={"inputs": [tensor]})
    request = ModelInferRequest(model_name="model")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 2]).contents.uint_contents.extend([1, 2])
    assert refusal(channel, "ModelInfer", request) == (grpc.StatusCode.INVALID_ARGUMENT, answer.json()["error"])


def _add_parameters(request: Any) -> None:
    for number in range(100_000):
        request.inputs[0].parameters[str(number)].bool_param = True


UNKNOWN_GROUP = b"\x7b\x2a\x05\x0a\xff\xff\xff\x7f\x7c"
"""That holds what elsewhere were a tensor, with a field that ends far behind the message."""


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b"\x2a\x00"),
        (b"", b"\x32\x00"),
        (b"", b"\x3a\x00"),
        (b"", _edited(_add_parameters).SerializeToString()),
        (UNKNOWN_GROUP, b"\x2a\x00"),
    ],
    ids=["inputs", "outputs", "raw_input_contents", "parameters of an input", "inputs behind a group"],
)
def test_a_message_of_very_many_fields_is_refused_before_they_take_memory(start, image_bundle, first, piece):
    running = start(image_bundle.root, "--grpc-port", "0")
    before = running.memory_bytes
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}", compression=grpc.Compression.Gzip) as channel:
        code, sentence = refusal(channel, "ModelInfer", first + piece * (31 * MIB // len(piece)))
    assert (code, "too many fields; accepted: at most 65536" in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True), sentence
    assert running.peak_memory_bytes - before < 192 * MIB  # it was gigabytes


def test_a_message_that_unpacks_to_too_much_is_refused_without_unpacking_it(start, image_bundle):
    running = start(image_bundle.root, "--grpc-port", "0")
    before = running.memory_bytes
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}", compression=grpc.Compression.Gzip) as channel:
        assert refusal(channel, "ModelInfer", bytes(256 * MIB), timeout=60)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.peak_memory_bytes - before < 128 * MIB


def test_too_large_a_message_is_refused_unread_also_where_it_is_packed(grpc_predictor):
    large = image_request(np.zeros((1, 700, 700, 3), np.uint8))
    for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(f"127.0.0.1:{grpc_predictor.grpc_port}", compression=packing) as channel:
            code, _ = refusal(channel, "ModelInfer", large)
            assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)
            assert call(channel, "ServerReady", answer_type=ServerReadyResponse).ready


def test_a_deadline_that_has_passed_is_said(channel, example):
    code, _ = refusal(channel, "ModelInfer", image_request(example[0]), timeout=1e-6)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_parameter_timeout_is_a_deadline_too(channel, example):
    request = image_request(example[0])
    request.parameters["timeout"].int64_param = 1
    assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    request.parameters["timeout"].int64_param = 30_000_000
    assert call(channel, "ModelInfer", request, ModelInferResponse).model_name == "model"
    assert refusal(channel, "ModelInfer", request, timeout=1e-6)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    request.parameters["timeout"].string_param = "1"
    code, sentence = refusal(channel, "ModelInfer", request)
    assert (code, "parameters.timeout is '1'" in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_bytes_come_the_answer_is_never_a_failure_of_the_server(channel, data):
    body = bytearray(image_request(np.zeros((1, 2, 2, 3), np.uint8), raw=data.draw(st.booleans())).SerializeToString())
    for _ in range(data.draw(st.integers(0, 6))):
        position = data.draw(st.integers(0, max(len(body) - 1, 0)))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        call(channel, "ModelInfer", bytes(body))
    except grpc.RpcError as error:
        assert error.code() in ACCEPTABLE, error  # noqa: PT017


@settings(max_examples=300, deadline=None)
@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=5),
    datatype=st.sampled_from(["UINT8", "FP32", "BYTES", "INT64", "", "ü"]),
    contents=st.dictionaries(
        st.sampled_from(["uint_contents", "int64_contents"]), st.lists(st.integers(0, 2**32 - 1), max_size=30)
    ),
    raw=st.lists(st.binary(max_size=40), max_size=2),
    parameters=st.dictionaries(st.sampled_from(["binary_data_output", "classification", "x"]), st.integers(0, 3) | st.booleans()),
    output=st.sampled_from([None, "probabilities", "logits"]),
)
def test_whatever_a_well_formed_request_says_the_answer_is_never_a_failure_of_the_server(
    channel, shape, datatype, contents, raw, parameters, output
):
    request = ModelInferRequest(model_name="model", raw_input_contents=raw)
    tensor = request.inputs.add(name="image", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    for owner in [request, *([request.outputs.add(name=output)] if output else [])]:
        for name, value in parameters.items():
            setattr(owner.parameters[name], "bool_param" if isinstance(value, bool) else "int64_param", value)
    try:
        call(channel, "ModelInfer", request)
    except grpc.RpcError as error:
        assert error.code() in ACCEPTABLE, error  # noqa: PT017
