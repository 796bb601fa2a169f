import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import fingerprint_source, ingest_source
from slipway.data.preprocess import build_dataset
from slipway.errors import DataError


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("form", ["archive in folder", "archive", "unpacked in folder", "unpacked"])
def test_packed_and_unpacked_give_the_same_data_set(tmp_path, cifar10_files, pack_cifar10, form, protocol):
    files = cifar10_files(per_batch=30, protocol=protocol)
    if form.startswith("archive"):
        archive = pack_cifar10(tmp_path / "cifar", files)
        location = archive if form == "archive" else archive.parent
    else:
        unpacked = tmp_path / "cifar" / "cifar-10-batches-py"
        write_folder(unpacked, files)
        location = unpacked if form == "unpacked" else unpacked.parent
    source = f"cifar10://{location}"
    assert fingerprint_source(source)
    ingest_source(source, tmp_path / "raw")
    manifest = build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))
    assert manifest.class_names[3] == "cat"
    test = pickle.loads(files["test_batch"])
    dataset = Dataset.open(tmp_path / "dataset")
    planes = dataset.read_column("test", "image").transpose(0, 3, 1, 2).reshape(30, 3072)
    assert np.array_equal(planes, test["data"])
    assert dataset.labels("test").tolist() == test["labels"]


class Attack:
    """A pickle that makes a file when it is loaded the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path, cifar10_files, pack_cifar10):
    trace = tmp_path / "trace"
    files = cifar10_files()
    files["data_batch_3"] = pickle.dumps({"data": Attack(trace), "labels": []})
    pack_cifar10(tmp_path / "cifar", files)
    with pytest.raises(DataError, match=r"data_batch_3 was refused.*mkdir"):
        ingest_source(f"cifar10://{tmp_path / 'cifar'}", tmp_path / "raw")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cifar"]


def test_members_that_point_outside_are_not_written_there(tmp_path, cifar10_files, pack_cifar10):
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    pack_cifar10(folder / "cifar", {**cifar10_files(), "intruder": b"x"}, prefix="../../../")
    ingest_source(f"cifar10://{folder / 'cifar'}", folder / "raw")
    assert not list(tmp_path.rglob("intruder"))
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in folder.iterdir()} == {"cifar", "raw"}


def replace_batch(**changes):
    def spoil(files):
        files["data_batch_2"] = pickle.dumps({**pickle.loads(files["data_batch_2"]), **changes}, protocol=2)

    return spoil


def cut_short(files):
    files["data_batch_2"] = files["data_batch_2"][:500]


def drop_batch(files):
    del files["data_batch_2"]


def drop_names(files):
    files["batches.meta"] = pickle.dumps({})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (replace_batch(labels=[1, 2, 3]), "20 images and 3 labels"),
        (replace_batch(data=np.zeros((20, 100), np.uint8)), "must be a uint8 array"),
        (replace_batch(labels="none"), "`labels` must be a list"),
        (cut_short, "data_batch_2 is truncated or damaged"),
        (drop_batch, "lacks data_batch_2"),
        (drop_names, "names no classes"),
    ],
)
def test_each_kind_of_damage_is_named_and_leaves_nothing_behind(tmp_path, cifar10_files, pack_cifar10, spoil, words):
    files = cifar10_files()
    spoil(files)
    pack_cifar10(tmp_path / "cifar", files)
    with pytest.raises(DataError) as caught:
        ingest_source(f"cifar10://{tmp_path / 'cifar'}", tmp_path / "raw")
    assert words in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cifar"]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_archive_is_named(tmp_path, cifar10_files, pack_cifar10, kept):
    archive = pack_cifar10(tmp_path / "cifar", cifar10_files())
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz (is truncated|lacks)"):
        ingest_source(f"cifar10://{archive}", tmp_path / "raw")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cifar"]


def test_a_folder_without_cifar10_says_what_belongs_there(tmp_path):
    with pytest.raises(DataError, match=r"neither cifar-10-python\.tar\.gz nor"):
        ingest_source(f"cifar10://{tmp_path}", tmp_path / "raw")
