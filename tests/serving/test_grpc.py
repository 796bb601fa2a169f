import asyncio
import json
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    ServerReadyResponse,
)
from tests.bundles import write_table_bundle
from tests.servers.certificates import issue_certificate

INFERENCE = "/inference.GRPCInferenceService/"
TOKEN = "a-token-of-more-than-16-characters"
WAIT_SECONDS = 20
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


@pytest.fixture(scope="module")
def predictor(start_for_module, image_bundle):
    return start_for_module(image_bundle.root, "--grpc-port", "0", "--max-body-bytes", "1000000")


@pytest.fixture(scope="module")
def channel(predictor):
    with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}") as channel:
        yield channel


def call(channel: grpc.Channel, method: str, request: Any = b"", answer_type: Any = None, **options: Any) -> Any:
    body = request if isinstance(request, bytes) else request.SerializeToString()
    path = method if method.startswith("/") else INFERENCE + method
    answer = channel.unary_unary(path)(body, timeout=options.pop("timeout", WAIT_SECONDS), **options)
    return answer if answer_type is None else answer_type.FromString(answer)


def refusal(channel: grpc.Channel, method: str, request: Any = b"", **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(channel, method, request, **options)
    return error.value.code(), error.value.details()


def image_request(pixels: np.ndarray, *, raw: bool = True, **fields: Any) -> Any:
    request = ModelInferRequest(model_name="model", **fields)
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    if raw:
        request.raw_input_contents.append(pixels.tobytes())
    else:
        tensor.contents.uint_contents.extend(pixels.ravel().tolist())
    return request


@pytest.fixture(scope="module")
def example(image_bundle):
    golden = image_bundle.golden[1]
    return golden.inputs["image"], golden.outputs["probabilities"]


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


def test_the_official_kserve_client_gets_what_rest_answers(predictor, example):
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    pixels, expected = example

    async def ask() -> list[Any]:
        async with InferenceGRPCClient(f"127.0.0.1:{predictor.grpc_port}") as client:
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


def test_tritons_client_gets_answers_classes_and_refusals(predictor, example, tmp_path):
    pixels, expected = example
    np.save(tmp_path / "pixels.npy", pixels)
    # in a process of its own: its messages and those of kserve cannot be in one
    told = subprocess.run(
        [sys.executable, "-c", TRITON_SCRIPT, str(predictor.grpc_port), str(tmp_path / "pixels.npy")],
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


def test_the_sentence_is_the_one_that_rest_says(predictor, channel):
    tensor = {"name": "image", "shape": [1, 2], "datatype": "UINT8", "data": [1, 2]}
    answer = httpx.post(predictor.infer_url, json={"inputs": [tensor]})
    request = ModelInferRequest(model_name="model")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 2]).contents.uint_contents.extend([1, 2])
    assert refusal(channel, "ModelInfer", request) == (grpc.StatusCode.INVALID_ARGUMENT, answer.json()["error"])


def test_too_large_a_message_is_refused_unread_also_where_it_is_packed(predictor):
    large = image_request(np.zeros((1, 700, 700, 3), np.uint8))
    for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}", compression=packing) as channel:
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


VALID = image_request(np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3), id="valid")
ACCEPTABLE = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


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


def test_only_who_has_the_token_may_ask_but_everybody_may_probe(start, image_bundle, monkeypatch, example):
    monkeypatch.setenv("SLIPWAY_SERVING_TOKEN", TOKEN)
    guarded = start(image_bundle.root, "--grpc-port", "0")
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc_port}") as channel:
        request = image_request(example[0])
        assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAUTHENTICATED
        wrong = (("authorization", f"Bearer {TOKEN}s"),)
        assert refusal(channel, "ModelMetadata", metadata=wrong)[0] == grpc.StatusCode.UNAUTHENTICATED
        right = (("authorization", f"Bearer {TOKEN}"),)
        assert call(channel, "ModelInfer", request, ModelInferResponse, metadata=right).model_name == "model"
        assert call(channel, "ServerReady", answer_type=ServerReadyResponse).ready
        code, sentence = refusal(channel, "ModelReady", ModelReadyRequest(name="other"))
        assert code == grpc.StatusCode.NOT_FOUND
        assert sentence.startswith("Model 'other' is not served here; ")
        assert "model" not in sentence
        assert call(channel, "/grpc.health.v1.Health/Check", b"", HealthCheckResponse).status == 1


def test_a_draining_server_is_not_ready_answers_on_and_ends_in_time(start, image_bundle, example):
    draining = start(image_bundle.root, "--grpc-port", "0", "--drain-seconds", "1.5")
    with grpc.insecure_channel(f"127.0.0.1:{draining.grpc_port}") as channel:
        assert call(channel, "ServerReady", answer_type=ServerReadyResponse).ready
        draining.terminate()
        deadline = time.monotonic() + WAIT_SECONDS
        while call(channel, "ServerReady", answer_type=ServerReadyResponse).ready:
            assert time.monotonic() < deadline
        assert call(channel, "/grpc.health.v1.Health/Check", b"", HealthCheckResponse).status == 2
        assert call(channel, "ModelInfer", image_request(example[0]), ModelInferResponse).model_name == "model"
        assert draining.wait() == 0
        assert refusal(channel, "ServerReady")[0] == grpc.StatusCode.UNAVAILABLE
    assert "error" not in draining.log


def test_a_taken_port_is_said_at_the_start(start, image_bundle, predictor):
    with pytest.raises(AssertionError, match=r"for gRPC. Choose another --grpc-port"):
        start(image_bundle.root, "--grpc-port", str(predictor.grpc_port))


def test_over_tls_the_client_must_show_a_certificate_where_an_authority_is_named(start, image_bundle, example, tmp_path):
    server = issue_certificate("127.0.0.1")
    server.write(tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "ca.crt").write_bytes(server.authority)
    files = ("--tls-certificate", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
    request = image_request(example[0])
    for arguments, needs_certificate in ((files, False), ((*files, "--tls-client-ca", str(tmp_path / "ca.crt")), True)):
        address = f"127.0.0.1:{start(image_bundle.root, '--grpc-port', '0', *arguments).grpc_port}"
        shown = grpc.ssl_channel_credentials(server.authority, server.private_key, server.certificate)
        with grpc.secure_channel(address, shown) as channel:
            assert call(channel, "ModelInfer", request, ModelInferResponse).model_name == "model"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(server.authority)) as channel:
            if needs_certificate:
                assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAVAILABLE
            else:
                assert call(channel, "ModelInfer", request, ModelInferResponse).model_name == "model"
        with grpc.insecure_channel(address) as channel:
            assert refusal(channel, "ModelInfer", request)[0] == grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_shown_to_the_next_client(start, image_bundle, tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    issue_certificate("127.0.0.1").write(certificate, key)
    predictor = start(image_bundle.root, "--grpc-port", "0", "--tls-certificate", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])

    def read_certificate() -> str:
        with (
            socket.create_connection(("127.0.0.1", predictor.grpc_port), timeout=WAIT_SECONDS) as connection,
            context.wrap_socket(connection) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True)).strip()

    assert read_certificate() == certificate.read_text().strip()
    issue_certificate("127.0.0.1").write(certificate, key)
    deadline = time.monotonic() + WAIT_SECONDS
    while read_certificate() != certificate.read_text().strip():
        assert time.monotonic() < deadline, "the old one is still shown"
        time.sleep(0.05)


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
