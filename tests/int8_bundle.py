"""Bundles with a resize and a convolution, in fp32 and, by ranges of random images, in int8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slipway.engines.onnx_runtime import OnnxRuntimeEngine
from slipway.export.bundle import INT8_NAME, MODEL_NAME, Bundle, BundleInfo, read_bundle, write_bundle
from slipway.export.golden import GoldenExample
from slipway.export.graph import prepend_resize
from slipway.export.precision import PrecisionInfo, Tolerance
from slipway.export.quantize import quantize_graph
from slipway.export.signature import Signature, TensorSpec

SIDE = 16
SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 4)),),
)
MACS = 50_000_000.0
"""Stated, so that the network counts as one that is worth OpenVINO's while."""


def draw_images(count: int, height: int = SIDE, width: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """Noise [count, height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write_conv_bundle(root: Path, *, default: str = "int8", macs: float = MACS) -> Bundle:
    """Write the bundle, with golden examples as ONNX Runtime answers them."""
    root.mkdir(parents=True)
    quantised = quantize_graph(_conv_model(), [{"image": draw_images(16, seed=seed)} for seed in range(2)])
    for name, graph in ((MODEL_NAME, _conv_model()), (INT8_NAME, quantised)):
        onnx.save(prepend_resize(graph, "image", height=SIDE, width=SIDE), root / name)
    engines = {name: OnnxRuntimeEngine(root / name, SIGNATURE) for name in (MODEL_NAME, INT8_NAME)}
    golden = [
        GoldenExample(
            inputs={"image": image[None]},
            outputs=engines[MODEL_NAME].predict({"image": image[None]}),
            reduced={"int8": engines[INT8_NAME].predict({"image": image[None]})},
        )
        for image in draw_images(4, seed=9)
    ]
    int8 = PrecisionInfo(
        precision="int8",
        file=INT8_NAME,
        kept=True,
        reason="It was made for a test.",
        tolerance=Tolerance(absolute=1e-3, relative=0.1),
    )
    info = BundleInfo(
        task="image-classification",
        architecture="conv",
        signature=SIGNATURE,
        class_names=("a", "b", "c", "d"),
        dataset_id="d" * 32,
        code_version="code",
        opset=18,
        metrics={},
        model={"macs": macs},
        parity_max_difference=0.0,
        precisions=(int8,),
    )
    write_bundle(root, replace(info, default_precision=default), golden)
    return read_bundle(root)


def _conv_model() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    tensors = {
        "filters": random.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
        "shift": random.normal(0, 0.2, 8).astype(np.float32),
        "head": random.normal(0, 0.2, (8 * 16 * 16, 4)).astype(np.float32) / 4,
        "scale": np.float32(1 / 128),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "filters", "shift"], ["features"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
