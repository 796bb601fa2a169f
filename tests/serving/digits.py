"""A bundle that reads scikit-learn's digits: a linear model, fitted in a moment."""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from slipway.export.bundle import MODEL_NAME, Bundle, BundleInfo, GoldenExample, read_bundle, write_bundle
from slipway.export.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 8, 8, 1)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 10)),),
)
_NUM_TRAINED = 1500


def load_held_out() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(images [n, 8, 8, 1], labels) that the model has not seen."""
    images, labels = _load()
    return images[_NUM_TRAINED:], labels[_NUM_TRAINED:]


def to_png(image: NDArray[np.uint8]) -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, format="PNG")
    return stream.getvalue()


def write_digits_bundle(root: Path) -> Bundle:
    """Fit the model and write its bundle."""
    images, labels = _load()
    fitted = LogisticRegression(max_iter=400).fit(images[:_NUM_TRAINED].reshape(-1, 64) / 255.0, labels[:_NUM_TRAINED])
    root.mkdir(parents=True)
    (root / MODEL_NAME).write_bytes(_linear_model(fitted.coef_.T / 255.0, fitted.intercept_).SerializeToString())
    session = onnxruntime.InferenceSession(str(root / MODEL_NAME), providers=["CPUExecutionProvider"])
    golden = [
        GoldenExample(inputs={"image": image[None]}, outputs={"probabilities": session.run(None, {"image": image[None]})[0]})
        for image in images[_NUM_TRAINED : _NUM_TRAINED + 3]
    ]
    info = BundleInfo(
        task="image-classification",
        architecture="linear",
        signature=SIGNATURE,
        class_names=tuple(map(str, range(10))),
        dataset_id="a" * 32,
        code_version="code",
        opset=18,
        metrics={"accuracy": 0.9},
        model={"parameters": 650.0},
        parity_max_difference=0.0,
    )
    write_bundle(root, info, golden)
    return read_bundle(root)


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    digits = load_digits()
    return (digits.images * (255 / 16)).round().astype(np.uint8)[..., None], digits.target


def _linear_model(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
