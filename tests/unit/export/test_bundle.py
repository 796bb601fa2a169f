import json

import numpy as np
import pytest

from slipway.errors import BundleError
from slipway.export.bundle import GOLDEN_NAME, INFO_NAME, INT8_NAME, MODEL_NAME, copy_bundle, read_bundle, read_info
from slipway.storage.files import hash_file, hash_json
from tests.bundles import write_image_bundle
from tests.int8_bundle import write_conv_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_conv_bundle(tmp_path / "bundle")


def test_the_quantised_model_belongs_to_the_bundle_and_travels_with_it(bundle, tmp_path):
    assert set(bundle.info.files) == {MODEL_NAME, INT8_NAME, GOLDEN_NAME}
    (bundle.root / "notes.txt").write_text("not of the bundle")
    copied = copy_bundle(bundle.root, tmp_path / "copy")
    assert sorted(path.name for path in copied.root.iterdir()) == sorted([INFO_NAME, GOLDEN_NAME, INT8_NAME, MODEL_NAME])
    assert copied.info == bundle.info
    assert copied.file_of("int8").is_file()


def test_an_altered_quantised_model_is_refused(bundle):
    path = bundle.root / INT8_NAME
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"model\.int8\.onnx was altered"):
        read_bundle(bundle.root)


def test_an_altered_statement_about_a_precision_is_refused(bundle):
    path = bundle.root / INFO_NAME
    content = json.loads(path.read_text())
    content["precisions"][0]["tolerance"]["relative"] = 10.0
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="was altered"):
        read_bundle(bundle.root)


def test_a_bundle_of_the_format_before_is_still_read_and_served_in_fp32(tmp_path):
    write_image_bundle(tmp_path / "bundle")
    _write_as_version_1(tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.info.format_version == 1
    assert (bundle.info.default_precision, bundle.info.precisions, bundle.info.image_min_side) == ("fp32", (), None)
    assert bundle.golden[0].reduced == {}
    assert np.isfinite(bundle.golden[0].outputs["probabilities"]).all()


def test_a_format_of_a_later_slipway_is_named(tmp_path):
    write_image_bundle(tmp_path / "bundle")
    content = json.loads((tmp_path / "bundle" / INFO_NAME).read_text())
    (tmp_path / "bundle" / INFO_NAME).write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(BundleError, match="format version 99; this Slipway reads versions 1 and 2"):
        read_info(tmp_path / "bundle")


def _write_as_version_1(root):
    golden = json.loads((root / GOLDEN_NAME).read_text())
    for example in golden["examples"]:
        del example["reduced"]
    (root / GOLDEN_NAME).write_text(json.dumps(golden))
    content = json.loads((root / INFO_NAME).read_text())
    for name in ("precisions", "default_precision", "image_min_side", "columns"):
        del content[name]
    files = {name: hash_file(root / name) for name in content["files"]}
    content |= {"format_version": 1, "bundle_id": "", "files": files}
    content["bundle_id"] = hash_json(content)[:32]
    (root / INFO_NAME).write_text(json.dumps(content))
