import numpy as np
import pytest

from slipway.export.golden import FP32_TOLERANCE, GoldenExample, decode_example, encode_example, expect_answer, find_fault
from slipway.export.precision import PrecisionInfo, Tolerance

INT8 = PrecisionInfo(
    precision="int8",
    file="model.int8.onnx",
    kept=True,
    reason="It was made for a test.",
    tolerance=Tolerance(absolute=0.001, relative=0.2),
)
EXAMPLE = GoldenExample(
    inputs={"x": np.zeros((1, 2), np.float32)},
    outputs={"p": np.array([[0.9, 0.099, 0.001]], np.float32)},
    reduced={"int8": {"p": np.array([[0.85, 0.145, 0.005]], np.float32)}},
)


def fault(given, precision):
    return find_fault({"p": np.array([given], np.float32)}, expect_answer(EXAMPLE, [INT8], precision))


def test_an_answer_is_compared_with_what_its_own_precision_must_give():
    assert not fault([0.9 + FP32_TOLERANCE / 2, 0.099, 0.001], "fp32")
    assert "differs by 0.05" in fault([0.85, 0.145, 0.005], "fp32")
    assert not fault([0.85, 0.145, 0.005], "int8")


def test_int8_of_another_processor_passes_and_another_model_does_not():
    assert not fault([0.83, 0.164, 0.006], "int8")
    assert fault([0.9, 0.06, 0.04], "int8")
    # As sure of the same class, and still not this model: what it thinks of the others is off by more than rounding.
    assert fault([0.854, 0.13, 0.016], "int8")


def test_a_precision_that_the_bundle_says_nothing_of_is_compared_widely_with_fp32():
    assert not fault([0.88, 0.12, 0.001], "bf16")
    assert fault([0.2, 0.7, 0.1], "bf16")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_never_right(bad):
    assert fault([bad, 0.1, 0.0], "fp32")
    assert fault([bad, 0.1, 0.0], "int8")


def test_other_shapes_outputs_and_words_are_named():
    expected = expect_answer(EXAMPLE, [], "fp32")
    assert "shape is [1, 2]" in find_fault({"p": np.zeros((1, 2))}, expected)
    assert "outputs are q" in find_fault({"q": np.zeros((1, 3))}, expected)
    text = GoldenExample(inputs={}, outputs={"label": np.array(["cat"], dtype=object)})
    assert "['dog']" in find_fault({"label": np.array(["dog"], dtype=object)}, expect_answer(text, [], "fp32"))


def test_an_example_is_written_and_read_back_as_it_was():
    read = decode_example(encode_example(EXAMPLE))
    np.testing.assert_array_equal(read.outputs["p"], EXAMPLE.outputs["p"])
    np.testing.assert_array_equal(read.reduced["int8"]["p"], EXAMPLE.reduced["int8"]["p"])
