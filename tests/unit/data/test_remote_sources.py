"""Sources in an object store are ingested as the same files on disk are."""

import subprocess
import sys

import pytest

from slipway.config import DataConfig
from slipway.data.ingest import fingerprint_source, ingest_source
from slipway.data.manifest import read_manifest
from slipway.data.preprocess import build_dataset
from slipway.data.provenance import read_provenance
from slipway.data.validation import validate_raw
from slipway.errors import DataError, StorageError
from slipway.storage.objects import ObjectStorage

ROWS = "".join(f"{number},{'xy'[number % 2]}\n" for number in range(60))


@pytest.fixture
def bucket(minio):
    return minio.make_bucket()


@pytest.fixture
def storage(minio):
    return ObjectStorage(minio.settings())


def ingest_both(local, remote, minio, tmp_path):
    """The raw data of a source on disk, and of its copy in the store."""
    ingest_source(local, tmp_path / "local")
    ingest_source(remote, tmp_path / "remote", settings=minio.settings())
    assert [path for path in (tmp_path / "remote").iterdir() if path.name.startswith(".")] == []
    return [read_provenance(tmp_path / place) for place in ("local", "remote")]


def test_a_folder_of_images_gives_the_same_data_set_from_either_place(minio, bucket, storage, write_folder, tmp_path):
    photos = write_folder(count=12)
    (photos / ".hidden").write_bytes(b"left out")
    uri = f"s3://{bucket}/some/photos"
    storage.upload_folder(photos, uri)
    storage.write_bytes(f"{uri}-old/cat/a.png", b"a sibling")
    local, remote = ingest_both(f"folder://{photos}", f"folder+{uri}", minio, tmp_path)
    assert remote.content_hash == local.content_hash
    assert (remote.kind, remote.source) == ("folder", f"folder+{uri}")
    for place in ("local", "remote"):
        build_dataset(tmp_path / place, tmp_path / f"{place}-dataset", DataConfig(min_class_samples=1))
    assert read_manifest(tmp_path / "remote-dataset").dataset_id == read_manifest(tmp_path / "local-dataset").dataset_id


def test_a_table_an_idx_folder_and_a_cifar10_archive_are_read_from_a_store(
    minio, bucket, storage, write_csv, write_idx, random_images, cifar10_files, pack_cifar10, tmp_path
):
    table = write_csv(f"a,b\n{ROWS}")
    storage.upload_file(table, f"s3://{bucket}/data/table.csv")
    local, remote = ingest_both(f"csv://{table}?target=b", f"csv+s3://{bucket}/data/table.csv?target=b", minio, tmp_path)
    assert (remote.content_hash, remote.num_samples) == (local.content_hash, 60)
    mnist = write_idx(random_images(40), [number % 4 for number in range(40)], suffix=".gz")
    storage.upload_folder(mnist, f"s3://{bucket}/mnist/raw")
    local, remote = ingest_both(f"idx://{mnist}?classes=4", f"idx+s3://{bucket}/mnist/raw?classes=4", minio, tmp_path)
    assert (remote.content_hash, remote.num_samples) == (local.content_hash, 40)
    (tmp_path / "cifar").mkdir()
    archive = pack_cifar10(tmp_path / "cifar", cifar10_files())
    storage.upload_file(archive, f"s3://{bucket}/cifar/{archive.name}")
    for location in (f"{bucket}/cifar", f"{bucket}/cifar/{archive.name}"):
        local, remote = ingest_both(f"cifar10://{archive}", f"cifar10+s3://{location}", minio, tmp_path)
        assert remote.content_hash == local.content_hash


def test_findings_name_files_by_their_address_in_the_store(minio, bucket, storage, write_folder, tmp_path):
    photos = write_folder(count=12)
    storage.upload_folder(photos, f"s3://{bucket}/photos")
    broken = f"s3://{bucket}/photos/{next(photos.iterdir()).name}/broken.png"
    storage.write_bytes(broken, b"no image")
    ingest_source(f"folder+s3://{bucket}/photos", tmp_path / "raw", settings=minio.settings())
    report = validate_raw(tmp_path / "raw", DataConfig(min_class_samples=1))
    assert broken in str(report)


def test_the_fingerprint_follows_the_listing_and_downloads_nothing(minio, bucket, storage, tmp_path):
    uri = f"s3://{bucket}/table.csv"
    storage.write_bytes(uri, f"a,b\n{ROWS}".encode())
    settings = minio.settings()

    def fingerprint(options="target=b"):
        return fingerprint_source(f"csv+{uri}?{options}", settings=settings)

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint("target=a") != first
    storage.write_bytes(uri, f"a,b\n{ROWS}1,x\n".encode())
    assert fingerprint() != first
    folder = f"s3://{bucket}/photos"
    for name in ("cat/a.png", "dog/b.png"):
        storage.write_bytes(f"{folder}/{name}", b"x")
    before = fingerprint_source(f"folder+{folder}", settings=settings)
    storage.write_bytes(f"{folder}/.ignored/c", b"x")
    assert fingerprint_source(f"folder+{folder}/", settings=settings) == before
    storage.write_bytes(f"{folder}/cat/c.png", b"x")
    assert fingerprint_source(f"folder+{folder}", settings=settings) != before


@pytest.mark.parametrize("form", ["folder", "idx", "cifar10", "csv"])
def test_an_address_where_nothing_lies_is_named(minio, bucket, tmp_path, form):
    source = f"{form}+s3://{bucket}/nowhere" + ("?target=a" if form == "csv" else "")
    for use in (fingerprint_source, lambda text, settings: ingest_source(text, tmp_path / "raw", settings=settings)):
        with pytest.raises(DataError, match=f"s3://{bucket}/nowhere does not exist, or holds no files"):
            use(source, settings=minio.settings())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="there is no such bucket"):
        fingerprint_source(source.replace(bucket, "no-such-bucket"), settings=minio.settings())


def test_errors_name_the_store_and_never_the_temporary_copy(minio, bucket, storage, tmp_path):
    for name in ("photos/cat/a.png", "table.csv", "mnist/other"):
        storage.write_bytes(f"s3://{bucket}/{name}", b"x")
    expected = {
        f"folder+s3://{bucket}/photos": rf"s3://{bucket}/photos holds one class folder only \(cat\)",
        f"folder+s3://{bucket}/table.csv": rf"s3://{bucket}/table.csv is a file; folder:// takes a folder",
        f"csv+s3://{bucket}/photos?target=a": rf"s3://{bucket}/photos is a folder; csv:// takes a file",
        f"csv+s3://{bucket}/table.csv": r"Say which column holds the class: csv\+s3://",
        f"csv+s3://{bucket}/table.csv?target=a": rf"s3://{bucket}/table.csv",
        f"idx+s3://{bucket}/mnist": rf"s3://{bucket}/mnist holds no IDX training files",
        f"cifar10+s3://{bucket}/mnist": rf"s3://{bucket}/mnist holds neither",
    }
    for source, words in expected.items():
        with pytest.raises(DataError, match=words) as caught:
            ingest_source(source, tmp_path / "raw", settings=minio.settings())
        assert str(tmp_path) not in str(caught.value), source
        assert list(tmp_path.iterdir()) == [], source


def test_the_environment_says_where_the_store_is(minio, bucket, storage):
    storage.write_bytes(f"s3://{bucket}/table.csv", b"a,b\n1,x\n")
    script = "import sys; from slipway.data.ingest import fingerprint_source; print(fingerprint_source(sys.argv[1]))"
    command = [sys.executable, "-c", script, f"csv+s3://{bucket}/table.csv?target=b"]
    done = subprocess.run(command, env=minio.environment, capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout.strip()) == 64
