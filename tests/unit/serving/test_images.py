import contextlib
import io
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slipway.data.decoding import decode_image
from slipway.data.images import Pixels
from slipway.errors import DataError, RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.image_heads import read_plain_head
from slipway.serving.wire.images import MAX_FILES, MAX_SIZES, MEDIA_TYPES, ImageReader, require_image_spec, stack_images


def signature(*shape: int | None) -> Signature:
    return Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=shape),), outputs=())


COLOR = signature(None, None, None, 3)
EMPTY_CHUNK = b"\0\0\0\0abCd" + zlib.crc32(b"abCd").to_bytes(4)


def encode(image: Image.Image, media_type: str = "image/png", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=media_type.removeprefix("image/"), **options)
    return stream.getvalue()


def read(body: bytes, model: Signature, *, min_side: int | None = None) -> Pixels:
    return ImageReader(require_image_spec(model), min_side=min_side).read(body, "The image")


def picture() -> Image.Image:
    return Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_an_image_file_becomes_its_pixels(media_type):
    image = read(encode(picture(), media_type), COLOR)
    assert (image.dtype, image.shape) == (np.uint8, (2, 3, 3))


def test_images_of_one_request_have_a_bounded_number_of_sizes():
    images = [np.zeros((1, width, 3), np.uint8) for width in range(1, MAX_SIZES + 2)]
    assert len(stack_images(images[1:] * 2, COLOR.inputs[0]).parts) == MAX_SIZES
    with pytest.raises(RequestError, match="1025 different sizes; accepted: at most 1024"):
        stack_images(images, COLOR.inputs[0])


def test_an_image_is_turned_upright_and_gets_the_models_channels():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(encode(picture(), "image/jpeg", exif=exif), COLOR)
    assert turned.shape == (3, 2, 3)
    grey = read(encode(Image.new("RGB", (4, 4), (50, 50, 50))), signature(None, None, None, 1))
    assert (grey.shape, set(grey.ravel())) == ((4, 4, 1), {50})
    colored = read(encode(Image.new("RGB", (2, 2), (200, 0, 0))), signature(None, None, None, 1))
    assert (colored.shape, set(colored.ravel())) == ((2, 2, 1), {60})
    from_grey = read(encode(Image.new("L", (4, 4), 7)), COLOR)
    assert (from_grey.shape, set(from_grey.ravel())) == ((4, 4, 3), {7})


def test_an_image_is_turned_upright_wherever_its_head_says_how_it_lies():
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes()
    segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2) + payload
    plain = encode(picture(), "image/jpeg")
    start = plain.index(b"\xff\xda")
    assert read(plain, COLOR).shape == (2, 3, 3)
    assert read(plain[:start] + segment + plain[start:], COLOR).shape == (3, 2, 3)


def test_a_huge_image_is_refused_before_it_is_decoded():
    bomb = encode(Image.new("1", (9000, 9000)))
    assert len(bomb) < 20_000
    with pytest.raises(RequestError, match="9000 x 9000 pixels; accepted: at most 40000000 in all"):
        read(bomb, COLOR)


@pytest.mark.parametrize(
    "segment", [b"\xff\xe2\0\2", b"\xff\xfe\0\2", b"\xff", b"\xff\xd8"], ids=["app2", "comment", "fill", "start"]
)
def test_a_jpeg_whose_head_goes_on_and_on_is_refused_before_it_is_read(segment):
    spec = TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3))
    with pytest.raises(RequestError, match="its head has over 10000 segments; accepted: at most 10000"):
        ImageReader(spec).read(b"\xff\xd8" + segment * 20_000, "The image")


def test_a_jpeg_with_thousands_of_comments_is_read():
    plain = encode(picture(), "image/jpeg")
    np.testing.assert_array_equal(read(plain[:2] + b"\xff\xfe\0\2" * 5000 + plain[2:], COLOR), read(plain, COLOR))


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded():
    content = encode(Image.effect_noise((40, 30), 50).convert("RGB"), "image/jpeg", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    bomb = content[:-2] + last * 10_000 + content[-2:]
    with pytest.raises(
        RequestError, match="The image cannot be read: its scans have over 32 components in all; accepted: at most 32"
    ):
        read(bomb, COLOR)


def test_a_png_of_endless_chunks_is_refused_before_it_is_read():
    plain = encode(picture())
    with pytest.raises(RequestError, match="The image cannot be read: it has over 10234 chunks; accepted: at most 10000"):
        read(plain[:33] + EMPTY_CHUNK * 20_000 + plain[33:], COLOR)


@pytest.mark.parametrize("is_progressive", [True, False])
def test_scans_are_counted_where_libjpeg_takes_more_than_one(is_progressive):
    plain = bytearray(encode(picture(), "image/jpeg", progressive=is_progressive))
    start = plain.index(b"\xff\xda")
    if not is_progressive:
        plain[start + 4] = 1  # components of the first scan
    assert read_plain_head(bytes(plain)) == (3, 2, True)
    with pytest.raises(DataError, match="its scans have over 32 components in all"):
        read_plain_head(bytes(plain[:-2] + plain[start:-2] * 33))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_the_images_of_a_request_share_one_bound_of_parts(media_type):
    plain = encode(picture(), media_type)
    place, part = (33, EMPTY_CHUNK) if media_type == "image/png" else (2, b"\xff\xe5\0\2")
    body = plain[:place] + part * 3000 + plain[place:]
    reader = ImageReader(COLOR.inputs[0])
    for _ in range(3):
        reader.read(body, "The image")
    with pytest.raises(
        RequestError, match="with the images before it, it has too many segments or chunks; accepted: 256 in each"
    ):
        reader.read(body, "The image")


def test_a_request_has_a_bounded_number_of_image_files():
    reader, body = ImageReader(COLOR.inputs[0]), encode(picture())
    for _ in range(MAX_FILES):
        reader.read(body, "The image")
    with pytest.raises(RequestError, match="The request has over 1024 image files; accepted: at most 1024"):
        reader.read(body, "The image")


def test_two_large_images_are_decoded_one_after_the_other(tmp_path):
    (tmp_path / "image.png").write_bytes(encode(Image.new("RGBA", (6300, 6300)), compress_level=1))
    program = r"""
        import re, sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from slipway.export.signature import TensorSpec
        from slipway.serving.wire.images import ImageReader

        def peak_kib():
            return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

        def read(image):
            return ImageReader(spec).read(image, "The image").shape

        spec = TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3))
        image = Path(sys.argv[1]).read_bytes()
        with ThreadPoolExecutor(2) as pool:
            before = peak_kib()
            assert list(pool.map(read, [image] * 2)) == [(6300, 6300, 3)] * 2
        print((peak_kib() - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "image.png")]
    peak_mib = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert peak_mib < 400  # 270 for one; 500 for two at a time


def test_a_model_that_takes_no_image_says_what_it_takes():
    table = Signature(inputs=(TensorSpec(name="age", dtype="float32", shape=(None, 1)),), outputs=())
    with pytest.raises(RequestError, match="does not take one image but age"):
        read(encode(picture()), table)
    with pytest.raises(RequestError, match="width is 3; accepted: 2"):
        read(encode(picture()), signature(None, 2, 2, 3))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(media_type=st.sampled_from(MEDIA_TYPES), data=st.data())
def test_a_damaged_file_is_decoded_or_refused(media_type, data):
    content = bytearray(encode(picture(), media_type))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(RequestError):
        read(bytes(content[:cut]), COLOR)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 95),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    orientation=st.sampled_from([None, 1, 3, 6, 8]),
    min_side=st.sampled_from([None, 1, 3, 8, 17]),
    seed=st.integers(0, 9),
)
def test_a_jpeg_gets_exactly_the_pixels_that_training_data_get(
    width, height, mode, quality, subsampling, progressive, orientation, min_side, seed
):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    image = Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None if mode != "CMYK" else mode
    )
    body = encode(image, "image/jpeg", quality=quality, subsampling=subsampling, progressive=progressive, exif=exif)
    expected = decode_image(io.BytesIO(body), min_side)
    pixels = read(body, COLOR, min_side=min_side)
    np.testing.assert_array_equal(pixels, expected if expected.shape[2] == 3 else expected.repeat(3, axis=2))


def test_all_images_of_a_request_share_one_bound_of_pixels():
    reader = ImageReader(COLOR.inputs[0], max_pixels=100)
    reader.read(encode(Image.new("RGB", (9, 9))), "The image")
    with pytest.raises(RequestError, match="5 x 5 pixels, with those of the images before it; accepted: at most 100 in all"):
        reader.read(encode(Image.new("RGB", (5, 5))), "The image")
