import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from slipway.export.quantize import quantize_graph


def build(nodes: list[tuple[str, list[str], str]], weights: dict[str, np.ndarray], shape: list[int]) -> ModelProto:
    """A network from x [batch, *shape] to y."""
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output], name=output) for operator, inputs, output in nodes],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, *shape[1:]])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def answer(model: ModelProto, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": x})[0].ravel()


def test_a_score_above_all_that_calibration_saw_is_not_cut_off():
    model = build([("Gemm", ["x", "w"], "y")], {"w": np.ones((8, 1))}, [8])
    quantised = quantize_graph(model, [{"x": np.eye(8, dtype=np.float32)}])  # scores of 1
    np.testing.assert_allclose(answer(quantised, np.ones((1, 8), np.float32)), [8.0], rtol=0.01)


def test_what_a_relu_discards_takes_no_part_of_the_range():
    nodes = [("Conv", ["x", "w"], "before"), ("Relu", ["before"], "after"), ("Conv", ["after", "v"], "y")]
    weights = {"w": np.array([1.0, -100.0]).reshape(2, 1, 1, 1), "v": np.ones((1, 2, 1, 1))}
    model = build(nodes, weights, [1, 1, 1])
    x = np.linspace(0, 1, 256, dtype=np.float32).reshape(-1, 1, 1, 1)  # [x, -100 x] before, [x, 0] behind
    quantised = quantize_graph(model, [{"x": x}])
    np.testing.assert_allclose(answer(quantised, x), x.ravel(), atol=0.01)
