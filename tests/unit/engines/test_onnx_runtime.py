from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from slipway.engines.onnx_runtime import OnnxRuntimeEngine
from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="color", dtype="string", shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="doubled", dtype="float32", shape=(None,)),
        TensorSpec(name="same", dtype="string", shape=(None,)),
    ),
)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """Doubles a number and repeats a string."""
    nodes = [helper.make_node("Add", ["age", "age"], ["doubled"]), helper.make_node("Identity", ["color"], ["same"])]
    tensors = [
        helper.make_tensor_value_info(name, kind, ["n"])
        for name, kind in (("age", TensorProto.FLOAT), ("color", TensorProto.STRING))
    ]
    results = [
        helper.make_tensor_value_info(name, kind, ["n"])
        for name, kind in (("doubled", TensorProto.FLOAT), ("same", TensorProto.STRING))
    ]
    graph = helper.make_graph(nodes, "columns", tensors, results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_numbers_and_strings_go_through_by_name_for_any_batch(model_path):
    engine = OnnxRuntimeEngine(model_path, SIGNATURE, num_threads=1)
    for size in (1, 3):
        color = np.array(["", "red", "grün"][:size], dtype=object)
        outputs = engine.predict({"color": color, "age": np.arange(size, dtype=np.float32)})
        np.testing.assert_array_equal(outputs["doubled"], 2 * np.arange(size, dtype=np.float32))
        assert outputs["same"].tolist() == color.tolist()


@pytest.mark.parametrize(
    "inputs",
    [
        {"age": np.zeros(2, np.float32)},
        {"age": np.zeros(2, np.float64), "color": np.array(["a", "b"], object)},
        {"age": np.zeros((2, 2), np.float32), "color": np.array(["a", "b"], object)},
        {"age": np.zeros(2, np.float32), "color": np.array(["a", "b"], object), "size": np.zeros(2, np.float32)},
    ],
)
def test_inputs_that_the_model_does_not_take_are_the_requests_fault(model_path, inputs):
    engine = OnnxRuntimeEngine(model_path, SIGNATURE)
    for take in (engine.predict, engine.prepare):
        with pytest.raises(RequestError, match=r"accepted: age: float32 \[any\], color: string \[any\]"):
            take(inputs)
