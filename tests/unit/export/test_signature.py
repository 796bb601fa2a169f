import pytest

from slipway.export.signature import TensorSpec, show_shape


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((1, 28, 28, 3), True), ((9, 5, 28, 3), True), ((1, 28, 28), False), ((1, 28, 27, 3), False), ((0, 28, 28, 3), False)],
)
def test_an_array_fits_whose_sizes_are_those_that_are_stated_and_not_zero(shape, fits):
    assert TensorSpec(name="image", dtype="uint8", shape=(None, None, 28, 3)).fits(shape) is fits


@pytest.mark.parametrize(
    ("dtype", "shape", "is_image"),
    [
        ("uint8", (None, None, None, 3), True),
        ("uint8", (None, 28, 28, 1), True),
        ("uint8", (None, 28, 28, 2), False),
        ("uint8", (None, 28, 28), False),
        ("float32", (None, 28, 28, 3), False),
    ],
)
def test_an_image_is_bytes_with_one_channel_or_three(dtype, shape, is_image):
    assert TensorSpec(name="x", dtype=dtype, shape=shape).is_image is is_image


def test_an_open_size_is_any_in_a_message():
    assert show_shape((None, 28, 3)) == "[any, 28, 3]"
