import json

import pytest

from slipway.errors import BundleError
from slipway.export.bundle import INFO_NAME, read_bundle
from slipway.serving.process.hashing import Hashing


@pytest.fixture(scope="module")
def bundle(write_image_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("hashing") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


def test_hashes_made_ahead_are_those_that_the_bundle_states(bundle):
    assert Hashing(bundle.root).wait() == bundle.info.files


def test_a_bundle_is_refused_by_hashes_made_ahead(bundle):
    hashes = dict.fromkeys(bundle.info.files or {}, "0" * 64)
    with pytest.raises(BundleError, match="was altered"):
        read_bundle(bundle.root, hashes=hashes)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", json.dumps({"files": 3}), json.dumps({"files": {"gone": ""}})])
def test_what_cannot_be_hashed_ahead_is_left_to_the_reader(tmp_path, content):
    if content is not None:
        (tmp_path / INFO_NAME).write_text(content)
    assert Hashing(tmp_path).wait() == {}
