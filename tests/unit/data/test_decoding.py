import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from slipway.data.decoding import decode_image
from slipway.errors import DataError

ORIENTATION = 0x0112


def encode(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def convert_at_once(content):
    """A file's pixels by whole images."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "I;16":
        return np.clip((np.asarray(image).astype(np.int64) + 128) // 257, 0, 255).astype(np.uint8)[..., np.newaxis]
    is_grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
    return pixels[..., np.newaxis] if is_grey else pixels


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    "mode", ["1", "L", "L transparent", "LA", "P", "P transparent", "RGB", "RGB transparent", "RGBA", "I;16"]
)
def test_an_image_of_many_rows_gets_the_pixels_that_it_would_get_at_once(mode, orientation):
    noise = np.random.default_rng(0).integers(0, 256, (601, 997, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"exif": exif, "compress_level": 0}
    name, _, transparent = mode.partition(" ")
    if name == "I;16":
        image = Image.fromarray(noise[..., :2].copy().view(np.uint16)[..., 0])
    elif name == "P":
        image = Image.fromarray(noise[..., 0]).convert("P")
        image.putpalette(noise[0, :256, :3].tobytes())
        transparent = transparent and bytes(noise[1, :256, 0])
    else:
        image = Image.fromarray(noise if name in ("LA", "RGBA") else noise[..., :3]).convert(name)
        transparent = transparent and (7 if name == "L" else tuple(noise[300, 500, :3].tolist()))
    content = encode(image, transparency=transparent, **options) if transparent else encode(image, **options)
    np.testing.assert_array_equal(decode_image(io.BytesIO(content)), convert_at_once(content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("file_format", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_image_is_turned_as_pillow_turns_it(file_format, options, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(Image.effect_noise((40, 30), 50).convert("RGB"), file_format, exif=exif, **options)
    np.testing.assert_array_equal(decode_image(io.BytesIO(content)), convert_at_once(content))


def write_exif_as_text(exif):
    digits = exif.hex()
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{digits[:72]}\n{digits[72:]}\n", zip=True)
    return io.BytesIO(encode(Image.new("RGB", (4, 3)), pnginfo=info))


def test_a_png_may_have_its_exif_as_text():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decode_image(write_exif_as_text(exif.tobytes())).shape == (4, 3, 3)
    with pytest.raises(DataError, match="its Exif has over 256 entries"):
        decode_image(write_exif_as_text(b"Exif\0\0II*\0\x08\0\0\0" + (300).to_bytes(2, "little") + bytes(3600)))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_exif_that_goes_on_and_on_is_refused(file_format):
    entries = b"".join(tag.to_bytes(2, "little") + b"\x07\0\4\0\0\0abcd" for tag in range(0x9000, 0x9000 + 300))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + (300).to_bytes(2, "little") + entries
    with pytest.raises(DataError, match="its Exif has over 256 entries and values; accepted: at most 256"):
        decode_image(io.BytesIO(encode(Image.new("RGB", (4, 3)), file_format, exif=exif)))


def test_a_file_that_is_no_image_is_not_read_to_its_end(tmp_path):
    class Stream(io.BytesIO):
        def read(self, size=-1):
            assert size > 0
            return super().read(size)

    with pytest.raises(DataError, match="it is not a JPEG, PNG or WebP image"):
        decode_image(Stream(b"ftypisom" * 100))
    (tmp_path / "film.jpg").write_bytes(b"ftypisom" * 100)
    with pytest.raises(DataError, match="it is not a JPEG, PNG or WebP image"):
        decode_image(tmp_path / "film.jpg")


@pytest.mark.parametrize(
    ("mode", "file_format", "options", "bound_mib"),
    [
        ("RGBA", "WEBP", {"lossless": True, "method": 0}, 700),
        ("I;16", "PNG", {"compress_level": 1}, 300),
        ("RGBA", "PNG", {"compress_level": 1}, 400),
    ],
)
def test_the_largest_image_is_decoded_in_little_more_memory_than_its_decoder_takes(
    tmp_path, mode, file_format, options, bound_mib
):
    (tmp_path / "image").write_bytes(encode(Image.new(mode, (6300, 6300)), file_format, **options))
    program = r"""
        import io, re, sys
        from pathlib import Path
        from PIL import Image
        from slipway.data.decoding import decode_image

        def peak_kib():
            return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

        stream = io.BytesIO()
        Image.new("RGBA", (9, 9)).save(stream, "WEBP")
        decode_image(stream)
        before = peak_kib()
        decode_image(Path(sys.argv[1]))
        print((peak_kib() - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "image")]
    peak_mib = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert peak_mib < bound_mib
