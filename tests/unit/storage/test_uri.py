from pathlib import Path

import pytest

from slipway.errors import StorageError
from slipway.storage.uri import is_remote, join_uri, local_path, parent_uri, parse_s3


@pytest.mark.parametrize(
    ("uri", "names", "joined"),
    [
        ("s3://bucket", ["a"], "s3://bucket/a"),
        ("s3://bucket/folder/", ["/a/", "b c"], "s3://bucket/folder/a/b c"),
        ("/data", ["a", "b"], "/data/a/b"),
        ("/", ["a"], "/a"),
        (Path("data"), [], "data"),
    ],
)
def test_names_are_joined_with_one_slash(uri, names, joined):
    assert join_uri(uri, *names) == joined


@pytest.mark.parametrize(
    ("uri", "parent"),
    [("s3://bucket/a/b/", "s3://bucket/a"), ("s3://bucket/a", "s3://bucket"), ("/data/a", "/data"), ("/a", "/"), ("a", ".")],
)
def test_the_parent_is_the_folder_around(uri, parent):
    assert parent_uri(uri) == parent


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "/"])
def test_a_bucket_and_the_root_lie_in_no_folder(uri):
    with pytest.raises(StorageError, match="lies in no folder"):
        parent_uri(uri)


def test_question_marks_hashes_and_percent_signs_belong_to_the_key():
    location = parse_s3("s3://bucket/a?b#c%20d/")
    assert (location.bucket, location.key, location.prefix) == ("bucket", "a?b#c%20d", "a?b#c%20d/")
    assert parse_s3("s3://bucket").prefix == ""


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "bucket/key", "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/./b"])
def test_an_address_that_names_no_bucket_or_leaves_its_folder_is_refused(uri):
    with pytest.raises(StorageError, match=r"bucket|parts"):
        parse_s3(uri)


def test_local_files_are_named_by_path_or_file_uri():
    assert local_path("file:///data/a%20b") == Path("/data/a b")
    assert local_path("data/a%20b") == Path("data/a%20b")
    assert (is_remote("s3://b/k"), is_remote("/s3/b"), is_remote(Path("s3:/b"))) == (True, False, False)
    with pytest.raises(StorageError, match=r"'gs' is not known. Accepted: s3://BUCKET/KEY"):
        local_path("gs://bucket/key")
