import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.images import MEDIA_TYPES, parse_image


def signature(*shape: int | None) -> Signature:
    return Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=shape),), outputs=())


COLOR = signature(None, None, None, 3)


def encode(image: Image.Image, media_type: str = "image/png", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=media_type.removeprefix("image/"), **options)
    return stream.getvalue()


def picture() -> Image.Image:
    return Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_an_image_file_becomes_one_sample(media_type):
    image = parse_image(encode(picture(), media_type), COLOR)["image"]
    assert (image.dtype, image.shape) == (np.uint8, (1, 2, 3, 3))


def test_an_image_is_turned_upright_and_gets_the_models_channels():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = parse_image(encode(picture(), "image/jpeg", exif=exif), COLOR)["image"]
    assert turned.shape == (1, 3, 2, 3)
    grey = parse_image(encode(Image.new("RGB", (4, 4), (50, 50, 50))), signature(None, None, None, 1))["image"]
    assert (grey.shape, set(grey.ravel())) == ((1, 4, 4, 1), {50})
    colored = parse_image(encode(Image.new("RGB", (2, 2), (200, 0, 0))), signature(None, None, None, 1))["image"]
    assert (colored.shape, set(colored.ravel())) == ((1, 2, 2, 1), {60})
    from_grey = parse_image(encode(Image.new("L", (4, 4), 7)), COLOR)["image"]
    assert (from_grey.shape, set(from_grey.ravel())) == ((1, 4, 4, 3), {7})


def test_a_huge_image_is_refused_before_it_is_decoded():
    bomb = encode(Image.new("1", (9000, 9000)))
    assert len(bomb) < 20_000
    with pytest.raises(RequestError, match="9000 x 9000 pixels; accepted: at most 40000000 in all"):
        parse_image(bomb, COLOR)


def test_a_model_that_takes_no_image_says_what_it_takes():
    table = Signature(inputs=(TensorSpec(name="age", dtype="float32", shape=(None, 1)),), outputs=())
    with pytest.raises(RequestError, match="does not take one image but age"):
        parse_image(encode(picture()), table)
    with pytest.raises(RequestError, match="width is 3; accepted: 2"):
        parse_image(encode(picture()), signature(None, 2, 2, 3))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(media_type=st.sampled_from(MEDIA_TYPES), data=st.data())
def test_a_damaged_file_is_decoded_or_refused(media_type, data):
    content = bytearray(encode(picture(), media_type))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(RequestError):
        parse_image(bytes(content[:cut]), COLOR)
