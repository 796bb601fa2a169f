"""What is judged is what is served: over HTTP, a test split gets the answers and the figures that evaluation got."""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import torch

from slipway.config import DataConfig, ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset
from slipway.engines.choice import open_engine
from slipway.evaluation.measurement import SPLIT, Evaluation, evaluate_bundle
from slipway.export.bundle import Bundle, read_bundle
from slipway.serving.grpc.messages import ModelInferRequest, ModelInferResponse
from slipway.settings import load_process_group
from slipway.tasks.registry import load_task
from slipway.training.job import TrainingJob
from slipway.training.run import run_job
from tests.serving.digits import to_png
from tests.serving.grpc_calls import call
from tests.serving.predictor import Predictor

TOLERANCE = 1e-5
SOURCES = ("digits", "wine", "iris", "mixed table")
"""Images, and tables of numbers and of both numbers and categories."""
_DATATYPES = {"uint8": "UINT8", "float32": "FP32", "string": "BYTES"}
_CONTENTS = {"UINT8": "uint_contents", "FP32": "fp32_contents", "BYTES": "bytes_contents"}
_MIXED_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trained model, how evaluation judged it, and the predictor that serves it."""

    bundle: Bundle
    dataset: Dataset
    evaluation: Evaluation
    predictor: Predictor

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Of the whole test split."""
        return load_task(self.bundle.info.task).read_inputs(self.dataset, SPLIT, np.arange(self.dataset.num_rows(SPLIT)))


@pytest.fixture(scope="module", params=SOURCES)
def case(request, start_for_module, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("parity")
    source = _write_mixed_table(folder / "rows.csv") if request.param == "mixed table" else f"sklearn://{request.param}"
    ingest_source(source, folder / "raw")
    build_dataset(folder / "raw", folder / "dataset", DataConfig(source=source))
    job = TrainingJob(
        dataset_dir=folder / "dataset",
        bundle_dir=folder / "bundle",
        work_dir=folder / "work",
        model=ModelConfig(width=0.25),
        train=TrainConfig(epochs=3),
    )
    job.work_dir.mkdir()
    run_job(job, load_process_group({}))
    torch.use_deterministic_algorithms(False)
    bundle, dataset = read_bundle(job.bundle_dir), Dataset.open(job.dataset_dir)
    return Case(
        bundle=bundle,
        dataset=dataset,
        evaluation=evaluate_bundle(bundle, dataset),
        predictor=start_for_module(bundle.root, "--grpc-port", "0"),
    )


def test_v2_json_gets_evaluations_answers_and_the_gates_metric(case):
    inputs = case.inputs
    entries = [{**_describe(name, array), "data": _to_data(array)} for name, array in inputs.items()]
    answer = httpx.post(case.predictor.infer_url, json={"inputs": entries}, timeout=60)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert_alike(case, np.array(output["data"]).reshape(output["shape"]))


def test_v2_binary_gets_evaluations_answers_and_the_gates_metric(case):
    tails = [_to_bytes(array) for array in case.inputs.values()]
    entries = [
        {**_describe(name, array), "parameters": {"binary_data_size": len(tail)}}
        for (name, array), tail in zip(case.inputs.items(), tails, strict=True)
    ]
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    answer = httpx.post(
        case.predictor.infer_url,
        content=head + b"".join(tails),
        headers={"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answer.content[:size])["outputs"]
    assert_alike(case, np.frombuffer(answer.content[size:], dtype="<f4").reshape(output["shape"]))


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_gets_evaluations_answers_and_the_gates_metric(case, raw):
    request = ModelInferRequest(model_name=case.predictor.name)
    for name, array in case.inputs.items():
        tensor = request.inputs.add(**_describe(name, array))
        if raw:
            request.raw_input_contents.append(_to_bytes(array))
        else:
            values = [text.encode() for text in array] if array.dtype == object else array.ravel().tolist()
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(values)
    with grpc.insecure_channel(f"127.0.0.1:{case.predictor.grpc_port}") as channel:
        answer = call(channel, "ModelInfer", request, ModelInferResponse)
    values = np.frombuffer(answer.raw_output_contents[0], "<f4") if raw else np.array(answer.outputs[0].contents.fp32_contents)
    assert_alike(case, values.reshape(tuple(answer.outputs[0].shape)))


def test_v1_gets_evaluations_answers_and_the_gates_metric(case):
    inputs = {name: _to_data(array) if array.ndim == 1 else array.tolist() for name, array in case.inputs.items()}
    rows = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
    for content in ({"instances": rows}, {"inputs": inputs}):
        assert_alike(case, _predict(case, json=content))


def test_one_sample_at_a_time_gets_evaluations_answers(case):
    rows = range(min(50, case.dataset.num_rows(SPLIT)))
    with httpx.Client(timeout=60) as client:
        for row in rows:
            entries = [
                {**_describe(name, array[row : row + 1]), "data": _to_data(array[row : row + 1])}
                for name, array in case.inputs.items()
            ]
            answer = client.post(case.predictor.infer_url, json={"inputs": entries}).json()
            given = np.array(answer["outputs"][0]["data"])
            np.testing.assert_allclose(given, case.evaluation.outputs["probabilities"][row], atol=TOLERANCE)


@pytest.mark.parametrize("case", ["digits"], indirect=True)
def test_an_image_file_gets_evaluations_answers_and_the_gates_metric(case):
    given = []
    with httpx.Client(timeout=60) as client:
        for image in case.inputs["image"]:
            answer = client.post(case.predictor.infer_url, content=to_png(image), headers={"Content-Type": "image/png"})
            given.append(answer.json()["outputs"][0]["data"])
    assert_alike(case, np.array(given))


@pytest.mark.parametrize("case", ["digits"], indirect=True)
def test_image_files_in_a_form_or_in_base64_get_evaluations_answers_and_the_gates_metric(case):
    files = [to_png(image) for image in case.inputs["image"]]
    assert_alike(case, _predict(case, files=[("image", ("digit.png", file, "image/png")) for file in files]))
    assert_alike(case, _predict(case, json={"instances": [{"b64": base64.b64encode(file).decode()} for file in files]}))


def test_every_engine_that_takes_the_bundle_gets_evaluations_answers_in_fp32(case):
    takes_strings = any(spec.dtype == "string" for spec in case.bundle.info.signature.inputs)
    for engine in ("onnxruntime",) if takes_strings else ("onnxruntime", "openvino"):
        opened = open_engine(case.bundle, engine=engine, precision="fp32")
        assert_alike(case, opened.predict(case.inputs)["probabilities"])
        for example in case.bundle.golden:
            given = opened.predict(example.inputs)["probabilities"]
            np.testing.assert_allclose(given, example.outputs["probabilities"], atol=TOLERANCE)


def assert_alike(case: Case, given: np.ndarray) -> None:
    """The same probabilities, and the same figures from them."""
    expected = case.evaluation.outputs["probabilities"]
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, atol=TOLERANCE)
    task, info = load_task(case.bundle.info.task), case.bundle.info
    metrics = task.compute_metrics({"probabilities": given.astype(np.float32)}, case.evaluation.targets, info.class_names)
    name = task.primary_metric.name
    assert metrics[name] == case.evaluation.metrics[name]


def _predict(case: Case, **body: Any) -> np.ndarray:
    """The probabilities that V1 answers with."""
    answer = httpx.post(f"{case.predictor.url}/v1/models/{case.predictor.name}:predict", timeout=60, **body)
    assert answer.status_code == 200, answer.text
    names = case.bundle.info.class_names
    return np.array([[one["probabilities"][name] for name in names] for one in answer.json()["predictions"]])


def _describe(name: str, array: np.ndarray) -> dict[str, Any]:
    kind = "string" if array.dtype == object else array.dtype.name
    return {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[kind]}


def _to_data(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "f":
        return [None if math.isnan(value) else value for value in array.ravel().tolist()]
    return [value or None for value in array.ravel()] if array.dtype == object else array.ravel().tolist()


def _to_bytes(array: np.ndarray) -> bytes:
    if array.dtype != object:
        return np.ascontiguousarray(array).tobytes()
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in array)


def _write_mixed_table(path: Path) -> str:
    """Numbers and categories, both with missing values."""
    random = np.random.default_rng(0)
    path.write_text("age,color,answer\n" + "".join(_mixed_rows(random)))
    return f"csv://{path}?target=answer"


def _mixed_rows(random: np.random.Generator) -> Iterator[str]:
    for index in range(_MIXED_ROWS):
        color = ("", "red", "blue", "grün")[index % 4]
        age = "" if index % 9 == 0 else f"{random.normal(40, 10):.2f}"
        yield f"{age},{color},{'yes' if color == 'red' or index % 5 == 0 else 'no'}\n"
