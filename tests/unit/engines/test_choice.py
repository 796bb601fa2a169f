import subprocess
import sys

import numpy as np
import pytest

from slipway.engines import choice, processor
from slipway.engines.choice import open_engine
from slipway.errors import ConfigError
from slipway.export.bundle import read_bundle
from tests.bundles import write_digit_bundle, write_image_bundle
from tests.int8_bundle import draw_images, write_conv_bundle

WITH_VNNI = frozenset({"avx2", "avx512_vnni", "avx512_bf16"})
WITHOUT = frozenset({"avx2"})


@pytest.fixture
def flags(monkeypatch):
    """Lets this process believe in another processor."""

    def believe(found):
        monkeypatch.setattr(processor, "read_flags", lambda: found)

    return believe


def test_a_large_network_goes_to_openvino_in_the_bundles_default_precision(conv_bundle, flags):
    flags(WITH_VNNI)
    info = open_engine(conv_bundle).info
    assert (info.name, info.precision, info.device) == ("openvino", "int8", "cpu")
    assert "int8" in info.reason


def test_without_the_instructions_for_int8_the_model_is_served_in_fp32_and_says_why(conv_bundle, flags):
    flags(WITHOUT)
    info = open_engine(conv_bundle).info
    assert (info.name, info.precision) == ("openvino", "fp32")
    assert "avx512_vnni" in info.reason


def test_a_small_network_in_fp32_goes_to_onnx_runtime(tmp_path):
    info = open_engine(write_conv_bundle(tmp_path / "bundle", default="fp32", macs=1e6)).info
    assert (info.name, info.precision) == ("onnxruntime", "fp32")
    assert "small" in info.reason


def test_what_is_asked_for_is_taken(conv_bundle, flags):
    flags(WITH_VNNI)
    images = draw_images(2)
    fp32 = open_engine(conv_bundle, engine="onnxruntime", precision="fp32", num_threads=2)
    assert (fp32.info.name, fp32.info.precision, fp32.info.num_threads) == ("onnxruntime", "fp32", 2)
    int8 = open_engine(conv_bundle, engine="onnxruntime", precision="int8")
    assert int8.info.precision == "int8"
    answers = [engine.predict({"image": images})["probabilities"] for engine in (fp32, int8)]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.1


def test_what_does_not_fit_the_bundle_or_the_machine_is_refused_with_what_does(tmp_path, conv_bundle, flags):
    flags(WITHOUT)
    with pytest.raises(ConfigError, match=r"'int8', which needs .*avx512_vnni.*accepted here: auto, fp32"):
        open_engine(conv_bundle, precision="int8")
    flags(WITH_VNNI)
    write_image_bundle(tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"'int8', which .* does not hold.*; accepted: auto, fp32, bf16\.$"):
        open_engine(read_bundle(tmp_path / "plain"), precision="int8")
    with pytest.raises(ConfigError, match="does not compute in bf16"):
        open_engine(conv_bundle, engine="onnxruntime", precision="bf16")
    with pytest.raises(ConfigError, match="'cuda'"):
        open_engine(conv_bundle, device="cuda")


def test_without_openvino_the_model_is_served_by_onnx_runtime_and_says_why(conv_bundle):
    code = (
        "import sys; from pathlib import Path; sys.modules['openvino'] = None; "
        "from slipway.engines.choice import open_engine; from slipway.export.bundle import read_bundle; "
        "info = open_engine(read_bundle(Path(sys.argv[1]))).info; print(info.name, info.precision, info.reason)"
    )
    done = subprocess.run([sys.executable, "-c", code, conv_bundle.root], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("onnxruntime")
    assert "OpenVINO cannot be loaded here" in done.stdout


def test_a_bundle_that_takes_strings_goes_to_onnx_runtime(tmp_path, text_bundle):
    info = open_engine(text_bundle).info
    assert info.name == "onnxruntime"
    assert "strings" in info.reason
    with pytest.raises(ConfigError, match="takes no strings"):
        open_engine(text_bundle, engine="openvino")


def test_a_bundle_that_takes_64_bit_integers_goes_to_onnx_runtime_which_keeps_their_digits(tmp_path):
    write_digit_bundle(tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    engine = open_engine(bundle)
    assert engine.info.name == "onnxruntime"
    assert "64-bit integers" in engine.info.reason
    assert engine.predict({"id": np.array([2**53 + 1, 2**63 - 1])})["probabilities"].argmax(axis=1).tolist() == [3, 7]
    with pytest.raises(ConfigError, match=r"computes 64-bit integers in 32 bits, and the model takes them \(id\)"):
        open_engine(bundle, engine="openvino")


def test_bf16_that_only_onnx_runtime_could_not_compute_is_refused_where_it_is_asked_for(text_bundle, flags):
    flags(WITH_VNNI)
    with pytest.raises(ConfigError, match=r"'bf16', which OpenVINO alone computes, but .*strings.*; accepted: auto, fp32\.$"):
        open_engine(text_bundle, precision="bf16")
    with pytest.raises(ConfigError, match=r"'int8', which .* does not hold.*; accepted: auto, fp32\.$"):
        open_engine(text_bundle, precision="int8")


def test_the_processors_own_instructions_are_read():
    assert processor.computes_natively("fp32")
    assert not processor.computes_natively("int8", WITHOUT)
    assert processor.computes_natively("bf16", WITH_VNNI)
    assert choice.SMALL_MACS > 0
