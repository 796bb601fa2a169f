import gzip
import struct

import numpy as np
import pytest

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset
from slipway.errors import DataError

LABELS = [number % 10 for number in range(300)]


def prepare(tmp_path, source):
    ingest_source(source, tmp_path / "raw")
    return build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))


@pytest.mark.parametrize(("suffix", "separator"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_every_spelling_of_the_files_gives_the_same_data_set(tmp_path, write_idx, random_images, suffix, separator):
    images = random_images(300)
    folder = write_idx(images, LABELS, suffix=suffix, separator=separator)
    manifest = prepare(tmp_path, f"idx://{folder}")
    dataset = Dataset.open(tmp_path / "dataset")
    stored = {image.tobytes(): label for split in manifest.num_rows for image, label in read_pairs(dataset, split)}
    assert stored == {image.tobytes(): label for image, label in zip(images, LABELS, strict=True)}
    assert manifest.feature("image").shape == (6, 5, 1)


def read_pairs(dataset, split):
    return zip(dataset.read_column(split, "image"), dataset.labels(split).tolist(), strict=True)


def test_the_publishers_test_set_is_the_test_split(tmp_path, write_idx, random_images):
    test_images = random_images(50, seed=1)
    folder = write_idx(random_images(300), LABELS)
    write_idx(test_images, LABELS[:50], part="t10k")
    manifest = prepare(tmp_path, f"idx://{folder}")
    assert manifest.provenance["split_by"] == "source"
    assert np.array_equal(Dataset.open(tmp_path / "dataset").read_column("test", "image")[..., 0], test_images)


def test_training_copies_of_test_samples_are_left_out(tmp_path, write_idx, random_images):
    images = random_images(300)
    folder = write_idx(images, LABELS)
    write_idx(images[:50], LABELS[:50], part="t10k")
    manifest = prepare(tmp_path, f"idx://{folder}")
    dataset = Dataset.open(tmp_path / "dataset")
    assert manifest.num_rows["test"] == 50
    assert manifest.num_rows["train"] + manifest.num_rows["validation"] == 250
    assert manifest.provenance["left_out_in_test_too"] == "50"
    trained_on = set(dataset.sample_ids("train")) | set(dataset.sample_ids("validation"))
    assert not trained_on & set(dataset.sample_ids("test"))


def test_more_than_ten_classes_can_be_declared(tmp_path, write_idx, random_images):
    folder = write_idx(random_images(600), [1 + number % 26 for number in range(600)])
    manifest = prepare(tmp_path, f"idx://{folder}?classes=27")
    assert manifest.class_names == tuple(map(str, range(1, 27)))


def truncate_gzip(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-200])
    return path, "truncated"


def damage_gzip(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(b"this was never packed")
    return path, "not a valid gzip file"


def end_early(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-7]))
    return path, "7 bytes early"


def go_on_too_long(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0"))
    return path, "longer than its header says"


def swap_labels_for_images(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes((folder / "train-images-idx3-ubyte.gz").read_bytes())
    return path, "0x00000803; IDX labels begin with 0x00000801. It holds images"


def lose_labels(folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    return folder, "not the labels"


def count_differently(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">2I", 0x801, 299) + bytes(LABELS[:299])))
    return path, "holds 300 images"


def claim_a_size_that_cannot_be(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 300, 2**31, 2**31) + bytes(9000)))
    return path, "2147483648 x 2147483648 pixels; accepted: 1 to 4096"


def remove_all(folder):
    for path in folder.iterdir():
        path.unlink()
    return folder, "holds no IDX training files"


def mix_two(folder):
    (folder / "emnist-letters-train-images-idx3-ubyte.gz").write_bytes(b"")
    return folder, "several data sets"


@pytest.mark.parametrize(
    "spoil",
    [
        truncate_gzip,
        damage_gzip,
        end_early,
        go_on_too_long,
        swap_labels_for_images,
        lose_labels,
        count_differently,
        claim_a_size_that_cannot_be,
        remove_all,
        mix_two,
    ],
)
def test_each_kind_of_damage_is_named_with_its_file_and_leaves_nothing_behind(tmp_path, write_idx, random_images, spoil):
    folder = write_idx(random_images(300), LABELS, suffix=".gz")
    path, words = spoil(folder)
    with pytest.raises(DataError) as caught:
        ingest_source(f"idx://{folder}", tmp_path / "raw")
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mnist"]


def test_packed_data_under_an_unpacked_name_is_told_from_a_wrong_magic_number(tmp_path, write_idx, random_images):
    folder = write_idx(random_images(300), LABELS)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"magic number 0x1f8b.*add \.gz to its name"):
        ingest_source(f"idx://{folder}", tmp_path / "raw")
