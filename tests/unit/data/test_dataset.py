import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.manifest import MANIFEST_NAME, SPLITS
from slipway.data.preprocess import build_dataset
from slipway.errors import DataError, DatasetCorruptError
from slipway.storage.files import hash_file


@pytest.fixture
def digits(tmp_path):
    ingest_source("sklearn://digits", tmp_path / "raw")
    build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig())
    return tmp_path / "dataset"


def hash_all(root):
    return {path.relative_to(root).as_posix(): hash_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("source", ["sklearn://digits", "sklearn://wine"])
def test_the_same_input_gives_the_same_bytes(tmp_path, source):
    for place in ("one", "two"):
        ingest_source(source, tmp_path / place / "raw")
        build_dataset(tmp_path / place / "raw", tmp_path / place / "dataset", DataConfig(source=source))
    assert hash_all(tmp_path / "one") == hash_all(tmp_path / "two")


def test_the_id_follows_all_that_decides_the_content(tmp_path, write_csv):
    def identify(text, **config):
        source = f"csv://{write_csv(text)}?target=answer"
        ingest_source(source, tmp_path / "raw")
        return build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source, **config)).dataset_id

    rows = [f"{number},{number % 3},{'yes' if number % 2 else 'no'}\n" for number in range(120)]
    text = "a,b,answer\n" + "".join(rows)
    ids = [
        identify(text),
        identify(text, seed=1),
        identify(text, test_fraction=0.3),
        identify(text.replace("yes", "yea")),
        identify(text.replace("\n50,", "\n50.5,")),
        identify(text.replace("b", "c", 1)),
        identify(text + "777,1,yes\n"),
    ]
    assert len(set(ids)) == len(ids)
    assert identify(text) == ids[0]
    assert identify(text + rows[5]) == ids[0], "an exact duplicate adds nothing"


def test_what_is_written_is_what_the_manifest_says(digits):
    dataset = Dataset.open(digits)
    manifest = dataset.manifest
    assert sum(manifest.num_rows.values()) == 1797
    ids = [sample for split in SPLITS for sample in dataset.sample_ids(split)]
    assert len(set(ids)) == len(ids)
    assert {len(sample) for sample in ids} == {32}
    for split in SPLITS:
        assert len(dataset.labels(split)) == dataset.num_rows(split) == manifest.num_rows[split]
    pixels = dataset.read_column("train", "image").astype(np.float64)
    assert manifest.statistics_of("image").mean == pytest.approx((pixels.mean(),), rel=1e-12)
    assert manifest.statistics_of("image").std == pytest.approx((pixels.std(),), rel=1e-12)


def test_shards_are_uncompressed_files_of_one_record_batch_that_are_mapped(digits):
    dataset = Dataset.open(digits)
    for shard in dataset.manifest.shards:
        before = pa.total_allocated_bytes()
        with pa.memory_map(str(digits / shard.path)) as mapped, pa.ipc.open_file(mapped) as reader:
            assert reader.num_record_batches == 1
            assert reader.get_batch(0).num_rows == shard.num_rows
            assert pa.total_allocated_bytes() == before
    images = dataset.read_column("train", "image")
    assert not images.flags.writeable
    assert not images.flags.owndata


@pytest.mark.parametrize("source", ["sklearn://digits", "sklearn://wine"])
def test_a_split_of_many_shards_reads_like_one(tmp_path, source):
    ingest_source(source, tmp_path / "raw")
    config = DataConfig(source=source)
    whole = build_dataset(tmp_path / "raw", tmp_path / "whole", config)
    parts = build_dataset(tmp_path / "raw", tmp_path / "parts", config, shard_bytes=1000)
    assert len(whole.shards) == 3
    assert len(parts.shards) > 10
    assert parts.dataset_id == whole.dataset_id
    assert parts.statistics == whole.statistics
    for split in SPLITS:
        for column in (*[feature.name for feature in whole.features], "label", "sample_id"):
            one, many = (Dataset.open(tmp_path / name).read_column(split, column) for name in ("whole", "parts"))
            assert np.array_equal(one, many)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])
    return "bytes where the manifest says"


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "was altered"


def remove(path):
    path.unlink()
    return "is missing"


@pytest.mark.parametrize("damage", [truncate, alter, remove])
def test_a_damaged_shard_is_named_when_it_is_read(digits, damage):
    words = damage(digits / "shards" / "test-00000.arrow")
    dataset = Dataset.open(digits)
    assert len(dataset.labels("train")) == dataset.num_rows("train")
    with pytest.raises(DatasetCorruptError, match=rf"test-00000\.arrow.*{words}.*run preprocess again"):
        dataset.labels("test")


def edit_manifest(**changes):
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text[:-200], "damaged"),
        (edit_manifest(format_version=99), "format version 99"),
        (edit_manifest(features=[{"name": "image"}]), "damaged"),
        (edit_manifest(num_rows={"train": 3, "validation": 173, "test": 375}), "damaged"),
        (edit_manifest(num_rows={}), "damaged"),
    ],
)
def test_a_damaged_manifest_is_named(digits, edit, words):
    path = digits / MANIFEST_NAME
    path.write_text(edit(path.read_text()))
    with pytest.raises(DatasetCorruptError, match=words):
        Dataset.open(digits)


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    with pytest.raises(DatasetCorruptError, match=r"manifest\.json is missing"):
        Dataset.open(tmp_path)


def add_copy(cat):
    (cat / "new.png").write_bytes((cat / "000.png").read_bytes())


def remove_copy(cat):
    (cat / "005.png").unlink()


def replace_copy(cat):
    (cat / "005.png").write_bytes((cat / "000.png").read_bytes())


def cut_copy(cat):
    (cat / "005.png").write_bytes((cat / "005.png").read_bytes()[:-30])


@pytest.mark.parametrize("change", [add_copy, remove_copy, replace_copy, cut_copy])
def test_copies_that_were_changed_after_ingest_are_noticed_and_nothing_is_written(tmp_path, write_folder, change):
    source = f"folder://{write_folder(count=40)}"
    ingest_source(source, tmp_path / "raw")
    change(tmp_path / "raw" / "files" / "cat")
    with pytest.raises(DataError, match=r"cat/.*\.png: the ingested copy is not what it was"):
        build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "raw"]


def test_a_table_that_was_changed_after_ingest_is_noticed(tmp_path):
    ingest_source("sklearn://wine", tmp_path / "raw")
    path = tmp_path / "raw" / "files" / "data.csv"
    path.write_text(path.read_text().replace("14.23,", "14.24,"))
    with pytest.raises(DataError, match="the ingested copy is not what it was"):
        build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source="sklearn://wine"))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(height=st.integers(1, 20), width=st.integers(2, 20), is_grey=st.booleans(), seed=st.integers(0, 100))
def test_images_come_back_pixel_by_pixel(height, width, is_grey, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (90, height, width, 3), dtype=np.uint8)
    if is_grey:
        images[...] = images[..., :1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, pixels in enumerate(images):
            path = folder / "photos" / "ab"[number % 2] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        source = f"folder://{folder / 'photos'}"
        ingest_source(source, folder / "raw")
        manifest = build_dataset(folder / "raw", folder / "dataset", DataConfig(source=source))
        dataset = Dataset.open(folder / "dataset")
        stored = np.concatenate([dataset.read_column(split, "image") for split in SPLITS])
    assert manifest.feature("image").shape == (height, width, 1 if is_grey else 3)
    channels = 1 if is_grey else 3
    assert {pixels.tobytes() for pixels in stored} == {pixels[..., :channels].tobytes() for pixels in images}
