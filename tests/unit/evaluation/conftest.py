"""A small data set of bright bands on noise, and linear ONNX models that tell the bands apart, more or less."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slipway.data.manifest import FORMAT_VERSION, Feature, FeatureStatistics, Manifest, Shard
from slipway.data.shards import ImageShardWriter
from slipway.export.bundle import BundleInfo, GoldenExample, write_bundle
from slipway.storage.files import write_json
from slipway.tasks.image_classification.task import TASK

SIDE = 6
CLASS_NAMES = ("left", "middle", "right")
BundleMaker = Callable[..., Path]


def draw_bands(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Images [rows, 6, 6, 1]: the two columns of the class are bright."""
    images = np.random.default_rng(seed).integers(0, 60, size=(len(labels), SIDE, SIDE, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 150
    return images


def write_dataset(root: Path, class_names: tuple[str, ...] = CLASS_NAMES, num_test: int = 120, seed: int = 0) -> Path:
    """A finished data set; its test split lies in two shards."""
    root.mkdir(parents=True)
    shape = (SIDE, SIDE, 1)
    shards: list[Shard] = []
    num_rows = {"train": 30, "validation": 15, "test": num_test}
    for split, count in num_rows.items():
        writer = ImageShardWriter(root, split, "image", shape, (count * 2 // 3) * SIDE * SIDE)  # type: ignore[arg-type]
        labels = np.arange(count) % 3
        for row, image in enumerate(draw_bands(labels, seed + count)):
            writer.append(image, int(labels[row]), f"{split}-{row:04d}")
        writer.flush()
        shards += writer.shards
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dataset_id=f"bands-{seed}-{len(class_names)}",
        task="image-classification",
        features=(Feature(name="image", role="image", dtype="uint8", shape=shape),),
        class_names=class_names,
        num_rows=num_rows,
        shards=tuple(shards),
        statistics=(FeatureStatistics(feature="image", mean=(80.0,), std=(70.0,)),),
        provenance={"source": "folder://bands", "seed": str(seed)},
    )
    write_json(root / "manifest.json", manifest.to_json())
    return root


def write_linear_bundle(
    root: Path,
    *,
    class_names: tuple[str, ...] = CLASS_NAMES,
    blind_to: tuple[int, ...] = (),
    poison: float | None = None,
    channels: int = 1,
    task: str = "image-classification",
) -> Path:
    """Softmax over the brightness of each band. Classes in `blind_to` are never answered; `poison` joins every logit."""
    root.mkdir(parents=True)
    weights = np.zeros((SIDE, SIDE, channels, len(class_names)), dtype=np.float32)
    for index in range(3):
        weights[:, 2 * index : 2 * index + 2, :, index] = 0.001
    bias = np.zeros(len(class_names), dtype=np.float32)
    bias[list(blind_to)] = -100.0
    if poison is not None:
        bias[:] = poison
    write_linear_onnx(root / "model.onnx", weights.reshape(-1, len(class_names)), bias, channels)
    dataset_features = (Feature(name="image", role="image", dtype="uint8", shape=(SIDE, SIDE, channels)),)
    manifest = Manifest(
        format_version=FORMAT_VERSION, dataset_id="", task=task, features=dataset_features, class_names=class_names,
        num_rows={}, shards=(), statistics=(), provenance={},
    )  # fmt: skip
    image = np.zeros((1, SIDE, SIDE, channels), dtype=np.uint8)
    info = BundleInfo(
        task=task,
        architecture="linear",
        signature=TASK.signature(manifest),
        class_names=class_names,
        dataset_id="bands-0-3",
        code_version="0" * 12,
        opset=18,
        metrics={},
        model={"parameters": float(weights.size), "size_bytes": 4.0 * weights.size},
        parity_max_difference=0.0,
    )
    golden = GoldenExample(inputs={"image": image}, outputs={"probabilities": np.full((1, len(class_names)), 0.0, np.float32)})
    write_bundle(root, info, [golden])
    return root


def write_linear_onnx(path: Path, weights: np.ndarray, bias: np.ndarray, channels: int) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset")


@pytest.fixture
def make_bundle(tmp_path: Path) -> BundleMaker:
    """Write a bundle called `name`; see `write_linear_bundle` for what may be wrong with it."""

    def make(name: str, **changes: object) -> Path:
        return write_linear_bundle(tmp_path / name, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set called `name`; see `write_dataset`."""

    def make(name: str, **changes: object) -> Path:
        return write_dataset(tmp_path / name, **changes)  # type: ignore[arg-type]

    return make
