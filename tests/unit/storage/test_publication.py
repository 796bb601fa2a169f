"""A published folder is found whole or not at all."""

import json
import os

import pytest

from slipway.errors import ObjectMissingError, StorageError
from slipway.storage.publication import PUBLICATION_NAME

MIB = 1 << 20


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "part").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "part" / "large").write_bytes(os.urandom(9 * MIB))
    return folder


def read_tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_published_folder_is_fetched_as_it_was(place, source, tmp_path):
    storage, folder = place
    assert not storage.is_published(folder)
    storage.publish_folder(source, folder)
    assert storage.is_published(folder)
    storage.fetch_folder(folder, tmp_path / "target")
    assert read_tree(tmp_path / "target") == read_tree(source)
    assert PUBLICATION_NAME in [file.name for file in storage.list_files(folder)]


def test_data_without_its_list_is_not_published(place, source, tmp_path):
    storage, folder = place
    storage.upload_folder(source, folder)
    with pytest.raises(ObjectMissingError, match=PUBLICATION_NAME):
        storage.fetch_folder(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["manifest.json", "part/large", "empty"])
def test_an_altered_file_is_told_by_its_hash_and_nothing_appears(place, source, tmp_path, name):
    storage, folder = place
    storage.publish_folder(source, folder)
    content = bytearray((source / name).read_bytes() or b"x")
    content[-1] ^= 1
    storage.write_bytes(f"{folder}/{name}", bytes(content))
    with pytest.raises(StorageError, match=f"{folder}/{name} was altered after it was published"):
        storage.fetch_folder(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["manifest.json", "part/large", "empty"])
def test_a_published_folder_that_lost_a_file_is_refused(place, source, tmp_path, name):
    storage, folder = place
    storage.publish_folder(source, folder)
    storage.delete(f"{folder}/{name}")
    with pytest.raises(ObjectMissingError, match=name):
        storage.fetch_folder(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_publishing_again_replaces_all_and_removes_what_is_no_longer_there(place, source, tmp_path):
    storage, folder = place
    storage.publish_folder(source, folder)
    (source / "empty").unlink()
    (source / "new").write_text("new")
    storage.publish_folder(source, folder)
    assert [file.name for file in storage.list_files(folder)] == ["manifest.json", "new", "part/large", PUBLICATION_NAME]
    storage.fetch_folder(folder, tmp_path / "target")
    assert read_tree(tmp_path / "target") == read_tree(source)


def test_publishing_what_is_there_uploads_nothing(storage, bucket, source):
    folder = f"s3://{bucket}/published"
    storage.publish_folder(source, folder)
    storage.write_bytes(f"{folder}/empty", b"")
    storage.write_bytes(f"{folder}/part/large", b"y" * 9 * MIB)  # would be put right by an upload
    storage.publish_folder(source, folder)
    assert storage.read_bytes(f"{folder}/part/large") == b"y" * 9 * MIB


def test_a_list_that_names_a_file_outside_is_refused_before_anything_is_written(place, source, tmp_path):
    storage, folder = place
    storage.publish_folder(source, folder)
    published = json.loads(storage.read_bytes(f"{folder}/{PUBLICATION_NAME}"))
    for name in ("../outside", "/outside", "part/../../outside", "..\\outside"):
        published["files"][0]["name"] = name
        storage.write_bytes(f"{folder}/{PUBLICATION_NAME}", json.dumps(published).encode())
        with pytest.raises(StorageError, match="could lie outside of the folder"):
            storage.fetch_folder(folder, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir() if "outside" in path.name) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format_version": 1}', b'{"format_version": 1, "files": [{"nam": 1}]}'])
def test_a_damaged_list_is_named(place, source, tmp_path, content):
    storage, folder = place
    storage.publish_folder(source, folder)
    storage.write_bytes(f"{folder}/{PUBLICATION_NAME}", content)
    with pytest.raises(StorageError, match=f"{PUBLICATION_NAME} is damaged"):
        storage.fetch_folder(folder, tmp_path / "target")


def test_a_list_of_a_later_format_is_not_guessed_at(place, source, tmp_path):
    storage, folder = place
    storage.write_bytes(f"{folder}/{PUBLICATION_NAME}", b'{"format_version": 2}')
    with pytest.raises(StorageError, match="is of format 2; this Slipway reads 1"):
        storage.fetch_folder(folder, tmp_path / "target")


def test_an_empty_folder_and_a_file_of_the_lists_own_name_cannot_be_published(place, source, tmp_path):
    storage, folder = place
    (tmp_path / "empty folder").mkdir()
    with pytest.raises(StorageError, match="holds nothing to publish"):
        storage.publish_folder(tmp_path / "empty folder", folder)
    with pytest.raises(StorageError, match="is no folder"):
        storage.publish_folder(tmp_path / "missing", folder)
    (source / PUBLICATION_NAME).touch()
    with pytest.raises(StorageError, match="has the name of the list"):
        storage.publish_folder(source, folder)
    assert storage.list_files(folder) == []
