"""What every engine says of a file that is no model, or not the model that its bundle states."""

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.engines.onnx_runtime import OnnxRuntimeEngine
from slipway.engines.openvino import OpenVinoEngine
from slipway.errors import BundleError
from slipway.export.signature import TensorSpec
from tests.int8_bundle import SIGNATURE

Engine = type[OnnxRuntimeEngine] | type[OpenVinoEngine]
EVERY_ENGINE = pytest.mark.parametrize("engine", [OnnxRuntimeEngine, OpenVinoEngine])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@EVERY_ENGINE
@pytest.mark.parametrize("content", [b"", b"this is not a model", b"\x08\x07" * 50])
def test_a_file_that_is_no_model_is_named(path: Path, engine: Engine, content: bytes):
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx.*Export the model again"):
        engine(path, SIGNATURE)


@EVERY_ENGINE
@pytest.mark.parametrize("size", [60, 200, -1])
def test_a_truncated_model_is_named(conv_bundle, path: Path, engine: Engine, size: int):
    path.write_bytes(conv_bundle.model_path.read_bytes()[:size])
    with pytest.raises(BundleError, match=r"model\.onnx"):
        engine(path, SIGNATURE)


@EVERY_ENGINE
def test_a_missing_model_is_named(path: Path, engine: Engine):
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        engine(path, SIGNATURE)


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"inputs": ()}, "inputs .*image"),
        ({"inputs": (*SIGNATURE.inputs, TensorSpec(name="age", dtype="float32", shape=(None,)))}, "inputs .*age"),
        ({"outputs": (TensorSpec(name="scores", dtype="float32", shape=(None, 4)),)}, "outputs .*scores"),
    ],
    ids=["it takes more", "it takes less", "it gives something else"],
)
def test_a_model_that_is_not_what_its_bundle_states_is_refused(conv_bundle, engine: Engine, stated, named: str):
    with pytest.raises(BundleError, match=named):
        engine(conv_bundle.model_path, replace(SIGNATURE, **stated))
