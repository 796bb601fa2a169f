"""The official clients, unmodified: KServe's over V1 and V2, Triton's over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
import tritonclient.http as triton
from kserve.protocol.infer_type import InferInput, InferRequest
from tritonclient.utils import InferenceServerException

from kserve import InferenceRESTClient, RESTConfig
from slipway.export.bundle import Bundle, read_bundle
from tests.bundles import write_table_bundle

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def table_bundle(tmp_path_factory) -> Bundle:
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    return read_bundle(root)


@pytest.fixture(scope="module")
def table(start_for_module, table_bundle):
    return start_for_module(table_bundle.root, name="towns")


@pytest.fixture
def triton_client(predictor):
    with triton.InferenceServerClient(predictor.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture
def table_client(table):
    with triton.InferenceServerClient(table.url.removeprefix("http://")) as client:
        yield client


def ask_kserve(protocol: str, ask: Callable[[InferenceRESTClient], Awaitable[object]]) -> object:
    async def run() -> object:
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            return await ask(client)

    return asyncio.run(run())


def expected(bundle: Bundle, index: int = 0) -> np.ndarray:
    return bundle.golden[index].outputs["probabilities"]


def to_kserve(bundle: Bundle, index: int, *, binary: bool) -> InferRequest:
    inputs = []
    for spec in bundle.info.signature.inputs:
        array = bundle.golden[index].inputs[spec.name]
        datatype = {"uint8": "UINT8", "float32": "FP32", "string": "BYTES"}[spec.dtype]
        tensor = InferInput(name=spec.name, shape=list(array.shape), datatype=datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model_name="model", request_id="r-1", infer_inputs=inputs)


def to_triton(bundle: Bundle, index: int, *, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for spec in bundle.info.signature.inputs:
        array = bundle.golden[index].inputs[spec.name]
        datatype = {"uint8": "UINT8", "float32": "FP32", "string": "BYTES"}[spec.dtype]
        tensor = triton.InferInput(spec.name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("binary", [False, True])
def test_kserves_client_asks_over_v2_in_json_and_binary(predictor, image_bundle, binary):
    for index in range(len(image_bundle.golden)):
        request = to_kserve(image_bundle, index, binary=binary)
        answer = ask_kserve("v2", lambda client, sent=request: client.infer(predictor.url, sent, model_name="model"))
        assert (answer.model_name, answer.id) == ("model", "r-1")
        np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected(image_bundle, index), atol=TOLERANCE)


@pytest.mark.parametrize("binary", [False, True])
def test_kserves_client_sends_strings(table, table_bundle, binary):
    request = to_kserve(table_bundle, 0, binary=binary)
    answer = ask_kserve("v2", lambda client: client.infer(table.url, request, model_name="towns"))
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected(table_bundle), atol=TOLERANCE)


def test_kserves_client_takes_a_binary_answer(predictor, image_bundle):
    request = to_kserve(image_bundle, 0, binary=True)
    request.parameters = {"binary_data_output": True}
    answer = ask_kserve("v2", lambda client: client.infer(predictor.url, request, model_name="model"))
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected(image_bundle), atol=TOLERANCE)


def test_kserves_client_asks_over_v1(predictor, image_bundle, table):
    image = image_bundle.golden[0].inputs["image"]
    answer = ask_kserve("v1", lambda client: client.infer(predictor.url, {"instances": image.tolist()}, model_name="model"))
    (prediction,) = answer["predictions"]
    np.testing.assert_allclose(list(prediction["probabilities"].values()), expected(image_bundle)[0], atol=TOLERANCE)
    rows = {"instances": [{"age": 20, "city": "Oslo"}, {"age": 20, "city": "Rome"}]}
    answer = ask_kserve("v1", lambda client: client.infer(table.url, rows, model_name="towns"))
    assert [prediction["label"] for prediction in answer["predictions"]] == ["yes", "no"]


def test_kserves_client_sees_that_server_and_model_are_ready(predictor):
    assert ask_kserve("v2", lambda client: client.is_server_live(predictor.url)) is True
    assert ask_kserve("v2", lambda client: client.is_server_ready(predictor.url)) is True
    assert ask_kserve("v2", lambda client: client.is_model_ready(predictor.url, "model")) is True
    assert ask_kserve("v2", lambda client: client.is_model_ready(predictor.url, "other")) is False
    assert ask_kserve("v1", lambda client: client.is_server_live(predictor.url)) is True
    assert ask_kserve("v1", lambda client: client.is_model_ready(predictor.url, "model")) is True


@pytest.mark.parametrize("binary_input", [False, True])
@pytest.mark.parametrize("binary_output", [False, True])
def test_tritons_client_asks_in_json_and_binary_in_both_directions(triton_client, image_bundle, binary_input, binary_output):
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary_output)]
    inputs = to_triton(image_bundle, 1, binary=binary_input)
    answer = triton_client.infer("model", inputs, outputs=wanted, request_id="t-1", model_version="1")
    assert answer.get_response()["id"] == "t-1"
    assert ("binary_data_size" in str(answer.get_response())) is binary_output
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(image_bundle, 1), atol=TOLERANCE)


def test_tritons_client_names_no_outputs_and_gets_all_of_them_as_bytes(triton_client, image_bundle):
    answer = triton_client.infer("model", to_triton(image_bundle, 0, binary=True))
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(image_bundle), atol=TOLERANCE)


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_sends_strings(table_client, table_bundle, binary):
    answer = table_client.infer("towns", to_triton(table_bundle, 1, binary=binary))
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(table_bundle, 1), atol=TOLERANCE)


def test_tritons_client_mixes_json_and_binary_tensors(table_client, table_bundle):
    number = to_triton(table_bundle, 0, binary=True)[0]
    string = to_triton(table_bundle, 0, binary=False)[1]
    answer = table_client.infer("towns", [string, number])
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(table_bundle), atol=TOLERANCE)


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_gets_the_most_probable_classes(triton_client, image_bundle, binary):
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
    answer = triton_client.infer("model", to_triton(image_bundle, 0, binary=True), outputs=wanted).as_numpy("probabilities")
    assert answer.shape == (1, 2)
    first = answer[0, 0].decode() if binary else answer[0, 0]
    probability, index, label = first.split(":")
    best = int(expected(image_bundle)[0].argmax())
    assert (int(index), label) == (best, image_bundle.info.class_names[best])
    assert float(probability) == pytest.approx(expected(image_bundle)[0, best], abs=1e-5)


def test_tritons_client_packs_its_requests(triton_client, image_bundle):
    inputs = to_triton(image_bundle, 0, binary=True)
    answer = triton_client.infer("model", inputs, request_compression_algorithm="gzip")
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(image_bundle), atol=TOLERANCE)


def test_tritons_client_reads_the_metadata(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("model")
    assert not triton_client.is_model_ready("other")
    server = triton_client.get_server_metadata()
    assert server["name"] == "slipway"
    assert server["extensions"] == ["binary_tensor_data", "classification"]  # no model_repository: nothing loads or unloads
    model = triton_client.get_model_metadata("model", model_version="1")
    assert (model["name"], model["versions"]) == ("model", ["1"])
    assert model["parameters"]["precision"] in ("fp32", "bf16", "int8")
    assert [entry["name"] for entry in triton_client.get_model_repository_index()] == ["model"]


def test_tritons_client_is_told_what_was_wrong(triton_client, image_bundle):
    (tensor,) = to_triton(image_bundle, 0, binary=True)
    tensor._name = "picture"
    with pytest.raises(InferenceServerException, match=r"inputs\[0\].name is 'picture'; accepted: image"):
        triton_client.infer("model", [tensor])
