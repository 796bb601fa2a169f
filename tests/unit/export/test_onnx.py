from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from slipway.config import ModelConfig
from slipway.errors import ParityError
from slipway.export.bundle import read_bundle
from slipway.export.graph import prepend_resize
from slipway.export.onnx import NUM_GOLDEN, TrainedModel, export_bundle
from slipway.models.info import ModelInfo
from slipway.models.registry import model_names
from slipway.tasks.registry import load_task, load_training_task

INFO = ModelInfo(parameters=1, trainable_parameters=1, macs=1, size_bytes=4)


def export(dataset, bundle_dir, architecture="auto", training_task=None):
    """Export a network with random weights and running statistics; gives it, in evaluation mode, beside the bundle."""
    torch.manual_seed(0)
    name = dataset.manifest.task
    training_task = training_task or load_training_task(name)
    network = training_task.build_network(dataset.manifest, ModelConfig(architecture=architecture, width=0.25))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    trained = TrainedModel(network=network, architecture=architecture, metrics={"validation_accuracy": 0.5}, info=INFO)
    export_bundle(bundle_dir, dataset=dataset, task=load_task(name), training_task=training_task, trained=trained)
    return read_bundle(bundle_dir), network.eval()


def open_session(model):
    """Of a path, or of a model's bytes."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("architecture", model_names("image"))
def test_every_image_network_answers_alike_in_torch_and_onnx(digits, tmp_path, architecture):
    bundle, network = export(digits, tmp_path / "bundle", architecture)
    images = digits.read_column("test", "image")[:50]
    (answer,) = open_session(bundle.model_path).run(["probabilities"], {"image": images})
    preprocessor = load_training_task("image-classification").build_preprocessor(digits.manifest)
    with torch.no_grad():
        expected = network(preprocessor({"image": torch.from_numpy(images.copy())})).softmax(1).numpy()
    assert np.abs(answer - expected).max() <= 1e-4
    assert bundle.info.parity_max_difference <= 1e-4
    assert answer.sum(1) == pytest.approx(1.0, abs=1e-5)


def test_images_of_another_size_are_answered_as_if_pillow_had_resized_them(digits, tmp_path):
    bundle, _ = export(digits, tmp_path / "bundle")
    session = open_session(bundle.model_path)
    image = np.random.default_rng(0).integers(0, 256, (30, 21), dtype=np.uint8)
    resized = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR))
    large, small = (session.run(None, {"image": value[None, :, :, None]})[0] for value in (image, resized))
    assert large == pytest.approx(small, abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (10, 17), (300, 211), (33, 31), (1, 1), (32, 64)])
def test_the_resize_is_pillows_within_one_of_255_and_exact_at_the_training_size(size, channels):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["out"])],
        "resize",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, channels])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, ["batch", 32, 32, channels])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = open_session(prepend_resize(model, "image", height=32, width=32).SerializeToString())
    images = np.random.default_rng(0).integers(0, 256, (4, *size, channels), dtype=np.uint8)
    (resized,) = session.run(None, {"image": images})
    pillow = [
        Image.fromarray(image if channels == 3 else image[..., 0]).resize((32, 32), Image.Resampling.BILINEAR) for image in images
    ]
    expected = np.stack([np.asarray(image).reshape(32, 32, channels) for image in pillow])
    tolerance = 0 if size == (32, 32) else 1
    assert np.abs(resized.astype(int) - expected.astype(int)).max() <= tolerance


def test_golden_examples_are_real_test_samples_one_a_class_with_the_answers_of_the_model(digits, tmp_path):
    bundle, _ = export(digits, tmp_path / "bundle")
    session = open_session(bundle.model_path)
    images = digits.read_column("test", "image")
    labels = digits.labels("test")
    found = []
    for example in bundle.golden:
        (row, *_) = np.flatnonzero((images == example.inputs["image"]).all((1, 2, 3)))
        found.append(labels[row])
        assert np.array_equal(session.run(None, example.inputs)[0], example.outputs["probabilities"])
    assert sorted(found) == list(range(NUM_GOLDEN))


def test_a_table_enters_as_named_columns_with_missing_and_unknown_values(table, tmp_path):
    bundle, network = export(table, tmp_path / "bundle")
    session = open_session(bundle.model_path)
    assert [entry.name for entry in session.get_inputs()] == ["Age (years)", "height/cm", "favourite color"]
    inputs = {
        "Age (years)": np.array([41.0, np.nan, 3e6], np.float32),
        "height/cm": np.array([170.0, 180.0, np.nan], np.float32),
        "favourite color": np.array(["grün", "", "mauve"], dtype=object),
    }
    (answer,) = session.run(None, inputs)
    preprocessor = load_training_task("tabular-classification").build_preprocessor(table.manifest)
    categories = table.manifest.statistics_of("favourite color").categories
    raw = {name: torch.from_numpy(values) for name, values in inputs.items() if values.dtype != object}
    raw["favourite color"] = torch.tensor([categories.index("grün") + 1, 0, 0])
    with torch.no_grad():
        expected = network(preprocessor(raw)).softmax(1).numpy()
    assert np.isfinite(answer).all()
    assert answer == pytest.approx(expected, abs=1e-5)


def test_columns_may_be_called_like_names_inside_the_graph(prepare, tmp_path):
    path = tmp_path / "table.csv"
    rows = (f"{('red', 'blue')[n % 2]},{n},{n * n % 7},{('cold', 'warm')[n % 3 % 2]},{n % 2}" for n in range(200))
    path.write_text("\n".join(["color,color_index,mean,color_index_,y", *rows]))
    dataset = prepare(f"csv://{path}?target=y")
    bundle, _ = export(dataset, tmp_path / "bundle")
    names = [entry.name for entry in open_session(bundle.model_path).get_inputs()]
    assert names == ["color", "color_index", "mean", "color_index_"]


@dataclass
class WrongExport:
    """A training task whose exported graph is not what was trained: the last weights are doubled."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def finish_onnx(self, model, manifest):
        weights = next(entry for entry in model.graph.initializer if entry.name.endswith("classifier.weight"))
        weights.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weights), weights.name))
        return self.inner.finish_onnx(model, manifest)


def test_a_graph_that_does_not_answer_as_torch_does_is_refused_and_leaves_no_bundle(digits, tmp_path):
    task = WrongExport(load_training_task("image-classification"))
    with pytest.raises(ParityError, match=r"'probabilities' of the exported model differs from torch by 0\.\d+ on row \d+"):
        export(digits, tmp_path / "bundle", training_task=task)
    assert list(tmp_path.iterdir()) == []


def test_the_graph_passes_the_checker_and_takes_any_batch(digits, tmp_path):
    bundle, _ = export(digits, tmp_path / "bundle")
    onnx.checker.check_model(onnx.load(bundle.model_path), full_check=True)
    session = open_session(bundle.model_path)
    image = digits.read_column("test", "image")[:1]
    batches = [session.run(None, {"image": np.repeat(image, count, axis=0)})[0] for count in (1, 2, 17)]
    assert [len(batch) for batch in batches] == [1, 2, 17]
    assert batches[2][16] == pytest.approx(batches[0][0], abs=1e-6)
