import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from slipway.data.dataset import Dataset
from slipway.data.manifest import FORMAT_VERSION, Feature, FeatureStatistics, Manifest
from slipway.data.shards import ImageShardWriter, write_table_shards
from slipway.storage.files import write_json
from slipway.tasks.image_classification.task import encode_png
from slipway.tasks.registry import load_task

CLASS_NAMES = ("no", "yes")


def finish(root: Path, task: str, features: tuple[Feature, ...], shards: tuple, num_test: int) -> Dataset:
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dataset_id="test",
        task=task,
        features=features,
        class_names=CLASS_NAMES,
        num_rows={"train": 0, "validation": 0, "test": num_test},
        shards=shards,
        statistics=tuple(FeatureStatistics(feature=feature.name) for feature in features),
        provenance={},
    )
    write_json(root / "manifest.json", manifest.to_json())
    return Dataset.open(root)


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    """Seven RGB images of 4 x 5 pixels in three shards; every pixel of image i is i."""
    shape, root = (4, 5, 3), tmp_path / "images"
    root.mkdir()
    writer = ImageShardWriter(root, "test", "image", shape, 3 * 60)
    for row in range(7):
        writer.append(np.full(shape, row, np.uint8), row % 2, f"id-{row}")
    writer.flush()
    assert len(writer.shards) == 3
    feature = Feature(name="image", role="image", dtype="uint8", shape=shape)
    return finish(root, "image-classification", (feature,), tuple(writer.shards), 7)


@pytest.fixture
def table(tmp_path: Path) -> Dataset:
    """Five rows in several shards, with a missing number and a missing category."""
    root = tmp_path / "table"
    root.mkdir()
    columns = pa.table(
        {
            "age": pa.array([1.5, float("nan"), 3.25, 4.0, 5.0], pa.float32()),
            "color": pa.array(["red", "blue", None, "red", "blue"], pa.string()),
        }
    )
    labels = np.array([0, 1, 0, 1, 0])
    shards = write_table_shards(root, "test", columns, labels, [f"id-{row}" for row in range(5)], 40)
    assert len(shards) > 1
    features = (
        Feature(name="age", role="numeric", dtype="float32", shape=()),
        Feature(name="color", role="categorical", dtype="string", shape=()),
    )
    return finish(root, "tabular-classification", features, tuple(shards), 5)


def test_image_inputs_are_what_the_signature_says_for_any_rows_over_shards(images):
    task = load_task("image-classification")
    (spec,) = task.signature(images.manifest).inputs
    rows = np.array([6, 0, 3, 3, 2])
    inputs = task.read_inputs(images, "test", rows)
    assert set(inputs) == {spec.name}
    assert inputs["image"].dtype == spec.dtype
    assert inputs["image"].shape == (5, 4, 5, 3)
    assert inputs["image"][:, 0, 0, 0].tolist() == rows.tolist()
    assert spec.shape == (None, None, None, 3)
    assert task.signature(images.manifest).outputs[0].shape == (None, 2)


def test_table_inputs_have_a_tensor_a_column_with_nan_and_empty_text_for_missing(table):
    task = load_task("tabular-classification")
    specs = {spec.name: spec for spec in task.signature(table.manifest).inputs}
    assert {name: (spec.dtype, spec.shape) for name, spec in specs.items()} == {
        "age": ("float32", (None,)),
        "color": ("string", (None,)),
    }
    inputs = task.read_inputs(table, "test", np.array([2, 1, 4]))
    np.testing.assert_array_equal(inputs["age"], np.array([3.25, np.nan, 5.0], np.float32))
    assert inputs["color"].tolist() == ["", "blue", "blue"]
    assert inputs["color"].dtype == object


def test_the_surest_mistakes_come_first_with_what_a_person_can_look_at(images, table):
    chances = np.array([0.9, 0.2, 0.3, 0.6, 0.85, 0.1, 0.5001])
    outputs = {"probabilities": np.column_stack([1 - chances, chances]).astype(np.float32)}
    worst = load_task("image-classification").find_worst(images, "test", outputs, limit=3)
    assert [sample.sample_id for sample in worst] == ["id-0", "id-5", "id-4"]
    assert (worst[0].actual, worst[0].predicted, worst[0].probability) == ("no", "yes", pytest.approx(0.9))
    assert worst[0].png is not None
    assert Image.open(io.BytesIO(worst[0].png)).size == (125, 100)

    outputs = {"probabilities": outputs["probabilities"][:5]}
    rows = load_task("tabular-classification").find_worst(table, "test", outputs, limit=10)
    assert [sample.sample_id for sample in rows] == ["id-0", "id-4", "id-1"]
    assert rows[2].fields == {"age": "missing", "color": "blue"}
    assert rows[2].png is None


def test_no_mistakes_give_an_empty_list(images):
    outputs = {"probabilities": np.eye(2, dtype=np.float32)[np.arange(7) % 2]}
    assert load_task("image-classification").find_worst(images, "test", outputs, limit=3) == []


def test_decode_gives_words_and_probabilities_that_json_can_hold():
    answers = load_task("image-classification").decode({"probabilities": np.array([[0.25, 0.75]], np.float32)}, CLASS_NAMES)
    assert answers[0].label == "yes"
    assert answers[0].probabilities == {"no": 0.25, "yes": 0.75}
    assert type(answers[0].probability) is float


@pytest.mark.parametrize(("size", "shown"), [((8, 8, 1), (128, 128)), ((28, 28, 3), (112, 112)), ((400, 200, 3), (64, 128))])
def test_small_pictures_grow_by_whole_pixels_and_large_ones_shrink(size, shown):
    image = np.random.default_rng(0).integers(0, 256, size=size, dtype=np.uint8)
    picture = Image.open(io.BytesIO(encode_png(image)))
    assert picture.size == shown
    if size == (8, 8, 1):
        np.testing.assert_array_equal(np.asarray(picture)[::16, ::16], image[..., 0])


def test_the_half_that_needs_no_torch_imports_none():
    import subprocess
    import sys

    code = (
        "import sys; from slipway.tasks.registry import load_task, task_names; [load_task(name) for name in task_names()]; "
        "import slipway.evaluation.comparison, slipway.engines.choice; "
        "print([name for name in ('torch', 'sklearn', 'matplotlib', 'jinja2', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
