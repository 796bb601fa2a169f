"""One contract for all places: the local disk and two different S3 servers."""

import os
import random
import threading
from io import BytesIO
from pathlib import Path

import pytest

from slipway.errors import ObjectChangedError, ObjectMissingError, StorageError
from slipway.settings import load_settings
from slipway.storage.files import staged_file
from slipway.storage.objects import ObjectStorage
from slipway.storage.sdk import open_client
from slipway.storage.uri import join_uri

MIB = 1 << 20
ODD_NAMES = [
    "plain",
    "with space.txt",
    "plus+and%and%20",
    "ümläut/日本語.png",
    "a?b#c&d=e",
    "quote'\"and;comma,",
    "brackets[0]{1}(2)",
    "~tilde!at@dollar$star*",
    ".hidden/.file",
    "deep/er/and/deep/er",
]


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_was_written_is_read_back_under_its_name(place, name):
    storage, folder = place
    uri = join_uri(folder, name)
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"first")
    storage.write_bytes(uri, b"content of " + name.encode())
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"content of " + name.encode()
    assert [(file.name, file.size_bytes) for file in storage.list_files(folder)] == [(name, 11 + len(name.encode()))]


def test_an_empty_file_is_a_file(place, tmp_path):
    storage, folder = place
    (tmp_path / "empty").touch()
    storage.upload_file(tmp_path / "empty", f"{folder}/uploaded")
    storage.write_bytes(f"{folder}/written", b"")
    assert storage.exists(f"{folder}/uploaded")
    assert storage.read_bytes(f"{folder}/uploaded") == b""
    storage.download_file(f"{folder}/written", tmp_path / "out" / "again")
    assert (tmp_path / "out" / "again").read_bytes() == b""
    storage.download_folder(folder, tmp_path / "folder")
    assert read_tree(tmp_path / "folder") == {"uploaded": b"", "written": b""}


@pytest.mark.parametrize("size_bytes", [1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 64 * MIB], ids=str)
def test_files_of_every_size_come_back_byte_for_byte(place, tmp_path, size_bytes):
    storage, folder = place
    content = random.Random(size_bytes).randbytes(size_bytes)
    (tmp_path / "file").write_bytes(content)
    storage.upload_file(tmp_path / "file", f"{folder}/file")
    storage.download_file(f"{folder}/file", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_thousand_files_travel_as_a_folder(place, tmp_path):
    storage, folder = place
    files = {f"part-{number % 7}/{number}.bin": os.urandom(3000) for number in range(1000)}
    storage.upload_folder(write_tree(tmp_path / "source", files), folder)
    assert [file.name for file in storage.list_files(folder)] == sorted(files)
    storage.download_folder(folder + "/", tmp_path / "target")
    assert read_tree(tmp_path / "target") == files
    storage.delete_folder(folder)
    assert storage.list_files(folder) == []


def test_siblings_whose_names_begin_alike_are_left_alone(place, tmp_path):
    storage, folder = place
    for name in ("model/a", "model-2/b", "model_b/c", "modelling", "model.json"):
        storage.write_bytes(f"{folder}/{name}", b"x")
    assert [file.name for file in storage.list_files(f"{folder}/model")] == ["a"]
    storage.download_folder(f"{folder}/model", tmp_path / "target")
    assert read_tree(tmp_path / "target") == {"a": b"x"}
    storage.delete_folder(f"{folder}/model")
    assert [file.name for file in storage.list_files(folder)] == ["model-2/b", "model.json", "model_b/c", "modelling"]


def test_empty_objects_that_other_tools_mark_folders_with_are_no_files(server, storage, bucket, tmp_path):
    client = open_client(server.settings(), timeout_seconds=5)
    for key in ("data/", "data/sub/", "data/nothing/"):
        client.put_object(bucket, key, BytesIO(), 0)
    storage.write_bytes(f"s3://{bucket}/data/sub/file", b"x")
    assert "sub/file" in [file.name for file in storage.list_files(f"s3://{bucket}/data")]
    storage.download_folder(f"s3://{bucket}/data", tmp_path / "target")
    assert read_tree(tmp_path / "target") == {"sub/file": b"x"}


def test_a_file_that_is_not_there_is_named(place, tmp_path):
    storage, folder = place
    storage.write_bytes(f"{folder}/other", b"x")
    for read in (storage.read_bytes, lambda uri: storage.download_file(uri, tmp_path / "out")):
        with pytest.raises(ObjectMissingError, match=f"There is no .*{folder}/missing"):
            read(f"{folder}/missing")
    assert list(tmp_path.glob("*out*")) == []
    with pytest.raises(StorageError, match=f"{folder}/nowhere holds nothing"):
        storage.download_folder(f"{folder}/nowhere", tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []


def test_deleting_what_is_gone_is_no_error(place):
    storage, folder = place
    storage.write_bytes(f"{folder}/a", b"x")
    for _ in range(2):
        storage.delete(f"{folder}/a")
        storage.delete_folder(folder)
    assert storage.list_files(folder) == []


def test_the_version_of_a_file_changes_with_its_content_alone(place):
    storage, folder = place
    storage.write_bytes(f"{folder}/a", b"one")
    first = storage.list_files(folder)
    assert storage.list_files(folder) == first
    storage.write_bytes(f"{folder}/a", b"two")
    assert storage.list_files(folder)[0].version != first[0].version


def test_a_downloaded_folder_replaces_what_was_there_as_a_whole(place, tmp_path):
    storage, folder = place
    storage.write_bytes(f"{folder}/new", b"x")
    write_tree(tmp_path / "target", {"old": b"y"})
    storage.download_folder(folder, tmp_path / "target")
    assert read_tree(tmp_path / "target") == {"new": b"x"}


def test_files_named_last_are_uploaded_after_all_others_in_this_order(place, tmp_path):
    storage, folder = place
    source = write_tree(tmp_path / "source", {name: name.encode() for name in ("a", "manifest.json", "z")})
    with pytest.raises(StorageError, match="holds no nowhere"):
        storage.upload_folder(source, folder, last=["nowhere"])
    assert storage.list_files(folder) == []
    (source / "done").symlink_to("/proc/self/mem")  # a file that cannot be read
    with pytest.raises(StorageError, match="Input/output error"):
        storage.upload_folder(source, folder, last=["done", "manifest.json"])
    assert [file.name for file in storage.list_files(folder)] == ["a", "z"]


def test_a_whole_bucket_is_never_deleted(storage, bucket):
    storage.write_bytes(f"s3://{bucket}/publication.json", b"{}")
    for uri in (f"s3://{bucket}", f"s3://{bucket}/"):
        with pytest.raises(StorageError, match="names a whole bucket"):
            storage.delete_folder(uri)
    assert len(storage.list_files(f"s3://{bucket}")) == 1


def test_the_root_folder_is_never_deleted():
    with pytest.raises(StorageError, match="root folder"):
        ObjectStorage(load_settings({})).delete_folder("/tmp/..")


def test_without_an_endpoint_the_error_says_what_to_set():
    with pytest.raises(StorageError, match=r"no S3 endpoint is set\. Set AWS_ENDPOINT_URL=http://HOST:9000"):
        ObjectStorage(load_settings({})).read_bytes("s3://bucket/key")
    with pytest.raises(StorageError, match="'minio:9000'; it begins with http://"):
        ObjectStorage(load_settings({"AWS_ENDPOINT_URL": "minio:9000"})).read_bytes("s3://bucket/key")


def test_a_part_is_read_only_of_the_version_that_was_asked_for(place):
    storage, folder = place
    uri = join_uri(folder, "file")
    storage.write_bytes(uri, b"0123456789")
    found = storage.find_file(uri)
    assert found is not None
    assert storage.list_files(folder) == [found]
    assert storage.read_part(uri, 3, 6, version=found.version) == b"345"
    assert storage.read_part(uri, 8, 20, version=found.version) == b"89"
    assert storage.read_part(uri, 12, 20, version=found.version) == b""
    for content in (b"9876543210", b"01"):
        storage.write_bytes(uri, content)
        with pytest.raises(ObjectChangedError, match=r"file is not what it was: its version is .*, not"):
            storage.read_part(uri, 3, 6, version=found.version)
    storage.delete(uri)
    with pytest.raises(ObjectMissingError):
        storage.read_part(uri, 3, 6, version=found.version)


@pytest.mark.parametrize(
    ("call", "name", "reason"),
    [
        (lambda storage, path, _: storage.find_file(f"{path}/{'x' * 300}"), "x" * 300, "File name too long"),
        (lambda storage, path, _: storage.exists(f"{path}/{'x' * 300}"), "x" * 300, "File name too long"),
        (lambda storage, path, _: storage.read_part(f"{path}/{'x' * 300}", 0, 1, version=""), "x" * 300, "File name too long"),
        (lambda storage, path, _: storage.delete(f"{path}/folder"), "folder", "Is a directory"),
        (lambda storage, path, _: storage.delete_folder(f"{path}/{'x' * 300}"), "x" * 300, "File name too long"),
        (lambda storage, path, source: storage.upload_file(source / "one", f"{path}/file/one"), "file", "File exists"),
        (lambda storage, path, source: storage.upload_file(source / "none", f"{path}/one"), "none", "No such file"),
        (lambda storage, path, source: storage.upload_folder(source, f"{path}/file"), "file", "File exists"),
        (lambda storage, path, _: storage.download_file(f"{path}/file", path / "folder"), "folder", "Is a directory"),
        (lambda storage, path, _: storage.download_folder(path, path / "file" / "again"), "file", "File exists"),
        (
            lambda storage, path, _: storage.download_files(path, storage.list_files(path), path / "file"),
            "file",
            "File exists",
        ),
    ],
)
def test_what_the_disk_refuses_is_a_storage_error_that_names_the_file(tmp_path, call, name, reason):
    source = write_tree(tmp_path / "source", {"one": b"x"})
    place = write_tree(tmp_path / "place", {"file": b"x", "folder/one": b"x"})
    with pytest.raises(StorageError, match=f"(?s)failed: {reason}.*{name}"):
        call(ObjectStorage(load_settings({})), place, source)
    assert read_tree(place) == {"file": b"x", "folder/one": b"x"}


def test_a_listing_passes_over_files_that_get_their_names_meanwhile(tmp_path):
    write_tree(tmp_path, {f"{number:03}": b"x" for number in range(300)})
    ended = threading.Event()

    def replace() -> None:
        while not ended.is_set():
            with staged_file(tmp_path / "replaced"):
                pass

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        storage = ObjectStorage(load_settings({}))
        for _ in range(100):
            names = [file.name for file in storage.list_files(str(tmp_path))]
            assert [name for name in names if "replaced" not in name] == [f"{number:03}" for number in range(300)]
    finally:
        ended.set()
        writer.join()


def test_a_part_is_read_whole_where_the_system_gives_it_piece_by_piece():
    uri = "/sys/kernel/btf/vmlinux"  # a page at a time
    if not Path(uri).exists():
        pytest.skip("this kernel does not describe its types")
    storage = ObjectStorage(load_settings({}))
    found = storage.find_file(uri)
    assert found is not None
    content = Path(uri).read_bytes()
    assert storage.read_part(uri, 5, 50_000, version=found.version) == content[5:50_000]
    assert storage.read_part(uri, len(content) - 9_000, len(content) + 5, version=found.version) == content[-9_000:]


def test_a_file_that_ends_before_its_size_is_an_error():
    uri = "/sys/devices/system/cpu/online"  # said to have a page
    storage = ObjectStorage(load_settings({}))
    found = storage.find_file(uri)
    assert found is not None
    with pytest.raises(StorageError, match=f"Reading {uri} failed: it ends at byte .*, and its size is {found.size_bytes}"):
        storage.read_part(uri, 0, found.size_bytes, version=found.version)
