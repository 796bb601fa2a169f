import io
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from slipway.data.decoding import decode_image
from slipway.data.png import check_chunks
from slipway.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ANIMATION = struct.pack(">II", 1_000_000, 0)


def chunk(name, payload=b""):
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def build(before=b"", between=b"", behind=b""):
    pixels = zlib.compress(b"".join(b"\0" + bytes(18) for _ in range(5)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 5, 8, 2, 0, 0, 0))
    halves = chunk(b"IDAT", pixels[:10]), chunk(b"IDAT", pixels[10:])
    return SIGNATURE + head + before + halves[0] + between + halves[1] + behind + chunk(b"IEND")


@pytest.mark.parametrize(
    "content",
    [
        build(before=chunk(b"abCd") * 20_000),
        build(behind=chunk(b"abCd") * 20_000),
        build(before=chunk(b"tEXt", b"a\0b") * 20_000),
        build(before=chunk(b"gAMA", bytes(4)) * 20_000),
        build(between=chunk(b"IDAT") * 20_000),
        build(before=chunk(b"acTL", ANIMATION), behind=chunk(b"fdAT", b"\0\0\0\1") * 20_000),
        build(before=chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(1 << 20))) * 100),
        build(before=chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"\xff" * (1 << 20))) * 100),
        build(before=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 20))) * 100),
    ],
    ids=["unknown before", "unknown behind", "text", "gamma", "no pixels", "frames", "packed text", "packed notes", "profiles"],
)
def test_a_png_of_endless_chunks_is_refused_before_it_is_read(content):
    with pytest.raises(DataError, match=r"it has over 1\d{4} chunks; accepted: at most 10000, and one more for each KiB"):
        check_chunks(content)
    with pytest.raises(DataError, match=r"it has over 1\d{4} chunks"):
        decode_image(io.BytesIO(content))


def test_a_png_that_says_twice_how_large_it_is_is_refused():
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 6000, 6000, 8, 2, 0, 0, 0))
    for content in (build(before=large), build(behind=large), SIGNATURE + chunk(b"tEXt", b"a\0b") + build()[8:]):
        with pytest.raises(DataError, match="it has a chunk IHDR that is not the first one; accepted: one, before all others"):
            decode_image(io.BytesIO(content))


@pytest.mark.parametrize("num_bytes", [4096, 8192])
def test_a_large_file_may_have_its_pixels_in_small_chunks(num_bytes):
    assert (
        check_chunks(build(between=chunk(b"IDAT", bytes(num_bytes)) * (30 * 2**20 // num_bytes))) == 4 + 30 * 2**20 // num_bytes
    )


def test_what_editors_write_is_read():
    info = PngInfo()
    info.add_text("Software", "an editor")
    info.add_text("Raw profile type iptc", "\niptc\n       2\n0000\n", zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>" * 40_000, zip=True)
    info.add_text("prompt", "a long story " * 100_000)
    image, stream = Image.effect_noise((40, 30), 50).convert("RGB"), io.BytesIO()
    image.save(stream, "PNG", pnginfo=info, icc_profile=bytes((1 << 20) - 1), exif=Image.Exif(), dpi=(72, 72))
    assert decode_image(stream).shape == (30, 40, 3)


def test_an_animated_png_gives_its_first_frame():
    frames, stream = [Image.new("RGB", (40, 30), (shade, 0, 0)) for shade in range(100)], io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    assert decode_image(stream).shape == (30, 40, 3)


def test_what_stands_behind_the_end_does_not_count():
    assert check_chunks(build() + chunk(b"abCd") * 20_000) == 4
    assert decode_image(io.BytesIO(build() + chunk(b"abCd") * 20_000)).shape == (5, 6, 3)
