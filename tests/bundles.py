"""Small bundles that ONNX Runtime really answers from."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from slipway.export.bundle import MODEL_NAME, BundleInfo, GoldenExample, read_bundle, write_bundle
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.record import ServedVersion, ServingRecord

CLASS_NAMES = ("dark", "bright", "red")
SIGNATURE = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 3)),),
)


def write_image_bundle(
    root: Path, *, seed: int = 0, golden_from: Path | None = None, model_bytes: bytes | None = None
) -> BundleInfo:
    """Write a bundle that tells dark, bright and red images apart by their mean colour; `seed` decides its weights.

    With `golden_from`, the golden examples are those of the model there; with `model_bytes`, the model file holds those.

    Either gives a bundle whose hashes hold and whose model is not the one that was evaluated.
    """
    root.mkdir(parents=True)
    (root / MODEL_NAME).write_bytes(_mean_color_model(seed).SerializeToString() if model_bytes is None else model_bytes)
    session = onnxruntime.InferenceSession(str((golden_from or root) / MODEL_NAME), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (1, size, size + 2, 3), dtype=np.uint8) for size in (3, 5, 8)]
    golden = [
        GoldenExample(inputs={"image": image}, outputs={"probabilities": session.run(None, {"image": image})[0]})
        for image in images
    ]
    info = BundleInfo(
        task="image-classification",
        architecture="mean-color",
        signature=SIGNATURE,
        class_names=CLASS_NAMES,
        dataset_id="d" * 32,
        code_version=f"code-{seed}",
        opset=20,
        metrics={"accuracy": 0.9},
        model={"parameters": 12.0},
        parity_max_difference=0.0,
    )
    return write_bundle(root, info, golden)


def _mean_color_model(seed: int) -> onnx.ModelProto:
    weights = np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32) / 16
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean-color",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([1, 2]), "axes"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def endless_model(*, above_pixels: int) -> bytes:
    """The model of `write_image_bundle`, which never ends its inference of images of more pixels than these."""
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    goes_on = helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])
    still_goes_on = helper.make_tensor_value_info("still_goes_on", TensorProto.BOOL, [])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, [])
    next_value = helper.make_tensor_value_info("next_value", TensorProto.FLOAT, [])
    step = [
        helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
        helper.make_node("Abs", ["value"], ["next_value"]),
    ]
    steps = helper.make_graph(step, "steps", [number, goes_on, value], [still_goes_on, next_value])
    spinning = [
        helper.make_node("Where", ["is_large", "for_ever", "once"], ["num_steps"]),
        helper.make_node("Loop", ["num_steps", "", "nothing"], ["still_nothing"], body=steps),
        helper.make_node("Add", ["summed", "still_nothing"], ["logits"]),
    ]
    return _sized_model(above_pixels, spinning, {"for_ever": np.int64(2**62), "once": np.int64(1), "nothing": np.float32(0)})


def failing_model(*, above_pixels: int) -> bytes:
    """The same, which fails on such images."""
    failing = [
        helper.make_node("Where", ["is_large", "outside", "inside"], ["place"]),
        helper.make_node("Gather", ["places", "place"], ["nothing"]),
        helper.make_node("Add", ["summed", "nothing"], ["logits"]),
    ]
    return _sized_model(above_pixels, failing, {"outside": np.int64(1), "inside": np.int64(0), "places": np.zeros(1, np.float32)})


def _sized_model(above_pixels: int, nodes: list[onnx.NodeProto], numbers: dict[str, Any]) -> bytes:
    """With nodes between the product, now `summed`, and the softmax of `logits`; they know whether an image `is_large`."""
    model = _mean_color_model(0)
    looking = [
        helper.make_node("Shape", ["image"], ["sides"], start=1, end=3),
        helper.make_node("ReduceProd", ["sides"], ["pixels"], keepdims=0),
        helper.make_node("Greater", ["pixels", "most_pixels"], ["is_large"]),
    ]
    numbers = {"most_pixels": np.int64(above_pixels), **numbers}
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(np.array(number), name) for name, number in numbers.items())
    *first, product, softmax = list(graph.node)
    product.output[0] = "summed"
    del graph.node[:]
    graph.node.extend([*first, product, *looking, *nodes, softmax])
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


TABLE_CLASS_NAMES = ("no", "yes")
TABLE_SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="city", dtype="string", shape=(None,)),
    ),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
)


def write_table_bundle(root: Path) -> BundleInfo:
    """Write a bundle that says "yes" of rows with the city Oslo or an age well above 50; a missing age counts as 0."""
    root.mkdir(parents=True)
    (root / MODEL_NAME).write_bytes(_oslo_model().SerializeToString())
    session = onnxruntime.InferenceSession(str(root / MODEL_NAME), providers=["CPUExecutionProvider"])
    rows = [
        {"age": np.array([age], np.float32), "city": np.array([city], dtype=object)} for age, city in ((20, "Oslo"), (30, "Rome"))
    ]
    golden = [GoldenExample(inputs=row, outputs={"probabilities": session.run(None, row)[0]}) for row in rows]
    info = BundleInfo(
        task="tabular-classification",
        architecture="oslo",
        signature=TABLE_SIGNATURE,
        class_names=TABLE_CLASS_NAMES,
        dataset_id="e" * 32,
        code_version="code",
        opset=20,
        metrics={"accuracy": 0.9},
        model={"parameters": 2.0},
        parity_max_difference=0.0,
    )
    return write_bundle(root, info, golden)


def _oslo_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("IsNaN", ["age"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "zero", "age"], ["known_age"]),
        helper.make_node("Sub", ["known_age", "fifty"], ["above_fifty"]),
        helper.make_node("Equal", ["city", "oslo"], ["is_oslo"]),
        helper.make_node("Cast", ["is_oslo"], ["oslo_one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["oslo_one", "hundred"], ["oslo_score"]),
        helper.make_node("Add", ["above_fifty", "oslo_score"], ["score"]),
        helper.make_node("Div", ["score", "ten"], ["yes"]),
        helper.make_node("Neg", ["yes"], ["no"]),
        helper.make_node("Unsqueeze", ["yes", "axis"], ["yes_column"]),
        helper.make_node("Unsqueeze", ["no", "axis"], ["no_column"]),
        helper.make_node("Concat", ["no_column", "yes_column"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    numbers = {"zero": 0.0, "fifty": 50.0, "hundred": 100.0, "ten": 10.0}
    graph = helper.make_graph(
        nodes,
        "oslo",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("city", TensorProto.STRING, ["n"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            *(numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()),
            numpy_helper.from_array(np.array(1), "axis"),
            helper.make_tensor("oslo", TensorProto.STRING, [], [b"Oslo"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


DIGIT_SIGNATURE = Signature(
    inputs=(TensorSpec(name="id", dtype="int64", shape=(None,)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 10)),),
)


def write_digit_bundle(root: Path) -> BundleInfo:
    """Write a bundle that names the last digit of a 64-bit integer: of one that was rounded it names another."""
    root.mkdir(parents=True)
    (root / MODEL_NAME).write_bytes(_digit_model().SerializeToString())
    session = onnxruntime.InferenceSession(str(root / MODEL_NAME), providers=["CPUExecutionProvider"])
    rows = [{"id": np.array([number], np.int64)} for number in (7, 2**53 + 1)]
    golden = [GoldenExample(inputs=row, outputs={"probabilities": session.run(None, row)[0]}) for row in rows]
    info = BundleInfo(
        task="tabular-classification",
        architecture="last-digit",
        signature=DIGIT_SIGNATURE,
        class_names=tuple("0123456789"),
        dataset_id="f" * 32,
        code_version="code",
        opset=20,
        metrics={"accuracy": 1.0},
        model={"parameters": 0.0},
        parity_max_difference=0.0,
    )
    return write_bundle(root, info, golden)


def _digit_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mod", ["id", "ten"], ["digit"]),
        helper.make_node("OneHot", ["digit", "ten", "off_and_on"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "last-digit",
        [helper.make_tensor_value_info("id", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(np.array(10, np.int64), "ten"),
            numpy_helper.from_array(np.array([0, 1], np.float32), "off_and_on"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def served_record(bundle_dir: Path, version: str, *, model_name: str) -> ServingRecord:
    """What a pointer file says of a bundle that serves."""
    served = ServedVersion(
        version=version,
        bundle_id=read_bundle(bundle_dir).info.bundle_id,
        bundle_uri=str(bundle_dir),
        run_id="run-1",
        dataset_id="d",
        code_version="c",
        ir_hash="",
        evaluated_against=None,
    )
    return ServingRecord(
        **vars(served), model_name=model_name, promoted_at="2026-01-01T00:00:00+00:00", confirmed=True, previous=None
    )
