import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.config import DataConfig
from slipway.data.ingest import default_model_name, fingerprint_source, ingest_source
from slipway.data.preprocess import build_dataset
from slipway.errors import DataError


@pytest.mark.parametrize("name", ["digits", "wine", "iris", "breast_cancer"])
def test_the_data_sets_of_scikit_learn_become_data_sets(tmp_path, name):
    source = f"sklearn://{name}"
    provenance = ingest_source(source, tmp_path / "raw")
    manifest = build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig(source=source))
    expected = {"digits": (1797, 10), "wine": (178, 3), "iris": (150, 3), "breast_cancer": (569, 2)}[name]
    assert (provenance.num_samples, len(manifest.class_names)) == expected
    assert manifest.task == ("image-classification" if name == "digits" else "tabular-classification")


def test_digits_span_the_whole_range_of_uint8(tmp_path):
    ingest_source("sklearn://digits", tmp_path / "raw")
    manifest = build_dataset(tmp_path / "raw", tmp_path / "dataset", DataConfig())
    statistics = manifest.statistics_of("image")
    assert (statistics.minimum, statistics.maximum) == (0.0, 255.0)
    assert manifest.feature("image").shape == (8, 8, 1)
    assert manifest.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sklearn://breast_cancer", "breast-cancer"),
        ("idx:///data/FashionMNIST/raw", "fashionmnist"),
        ("cifar10:///data/x", "cifar10"),
        ("folder:///data/My Photos (2)/", "my-photos-2"),
        ("csv:///data/Sales_Q1.csv?target=won", "sales-q1"),
        ("csv:///data/2024.csv?target=won", "model-2024"),
        ("folder:///data/%%%", "model"),
        ("folder+s3://bucket/My Photos/", "my-photos"),
        ("folder+s3://photos", "photos"),
        ("csv+s3://bucket/a/Sales_Q1.csv?target=won", "sales-q1"),
        ("idx+s3://bucket/FashionMNIST/raw", "fashionmnist"),
    ],
)
def test_a_model_is_named_after_its_source(source, name):
    assert default_model_name(source) == name


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("folders:///x", ["folder://?", "csv://FILE?target=COLUMN"]),
        ("digits", ["sklearn://digits"]),
        ("sklearn://digit", ["sklearn://digits?"]),
        ("sklearn://", ["nothing follows"]),
        ("sklearn+s3://digits", ["sklearn://?", "folder+s3://BUCKET/FOLDER"]),
        ("folder+gs://bucket/photos", ["folder+s3://?"]),
        ("s3://bucket/photos", ["Say how to read it: folder+s3://BUCKET/FOLDER"]),
        ("folder+s3:///photos", ["names no bucket"]),
        ("folder+s3://bucket/../photos", ["`..`"]),
        ("csv+s3://bucket/a.csv?tarjet=a", ["tarjet", "target?"]),
        ("csv:///x.csv?tarjet=a", ["tarjet", "target?", "categorical"]),
        ("csv:///x.csv?target=a&target=b", ["twice"]),
        ("idx:///x?classes=many", ["classes", "2 to 256"]),
    ],
)
def test_a_source_that_is_spelt_wrong_is_refused_with_the_nearest_right_one(tmp_path, source, words):
    with pytest.raises(DataError) as caught:
        ingest_source(source, tmp_path / "raw")
    assert [word for word in words if word not in str(caught.value)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["idx", "cifar10", "folder", "csv"])
def test_a_path_that_does_not_exist_is_named(tmp_path, scheme):
    missing = tmp_path / "nowhere"
    source = f"{scheme}://{missing}" + ("?target=a" if scheme == "csv" else "")
    for use in (fingerprint_source, lambda text: ingest_source(text, tmp_path / "raw")):
        with pytest.raises(DataError, match=f"{missing} does not exist"):
            use(source)
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_follows_content_and_options_and_not_time(write_csv):
    path = write_csv("a,b\n1,x\n2,y\n")
    source = f"csv://{path}?target=b"
    before = fingerprint_source(source)
    os.utime(path, (1, 1))
    assert fingerprint_source(source) == before
    assert fingerprint_source(f"{source}&categorical=a") != before
    path.write_text("a,b\n1,x\n3,y\n")
    assert fingerprint_source(source) != before


def test_fingerprints_and_names_import_nothing_heavy(write_folder):
    script = (
        "import sys; from slipway.data.ingest import default_model_name, fingerprint_source\n"
        "for source in sys.argv[1:]: default_model_name(source), fingerprint_source(source)\n"
        "print([name for name in ('numpy', 'pyarrow', 'PIL', 'sklearn') if name in sys.modules])"
    )
    sources = ["sklearn://digits", f"folder://{write_folder(count=1)}"]
    done = subprocess.run([sys.executable, "-c", script, *sources], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ingesting_again_replaces_what_was_there_and_a_failure_leaves_it(tmp_path, write_csv):
    rows = "".join(f"{number},{'xy'[number % 2]}\n" for number in range(60))
    path = write_csv(f"a,b\n{rows}")
    first = ingest_source(f"csv://{path}?target=b", tmp_path / "raw")
    with pytest.raises(DataError):
        ingest_source(f"csv://{path}?target=c", tmp_path / "raw")
    assert (tmp_path / "raw" / "files" / "table.csv").exists()
    path.write_text(f"a,b\n{rows}60,x\n")
    second = ingest_source(f"csv://{path}?target=b", tmp_path / "raw")
    assert (first.num_samples, second.num_samples) == (60, 61)
    assert first.content_hash != second.content_hash
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["raw", "table.csv"]


def test_data_that_was_not_ingested_is_refused(tmp_path):
    with pytest.raises(DataError, match="Run ingest first"):
        build_dataset(Path(tmp_path), tmp_path / "dataset", DataConfig())
