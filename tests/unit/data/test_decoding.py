import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image, ImageOps

from slipway.data.decoding import check_scans, decode_image
from slipway.errors import DataError

ORIENTATION = 0x0112
SCAN, SCANS_ACCEPTED = b"\xff\xda", 100


def encode(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def repeat_last_scan(num_scans):
    content = encode(Image.effect_noise((40, 30), 50).convert("RGB"), "JPEG", progressive=True)
    last = content[content.rindex(SCAN) : -2]
    return content[:-2] + last * (num_scans - content.count(SCAN)) + content[-2:]


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


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(tmp_path):
    few, many = repeat_last_scan(SCANS_ACCEPTED), repeat_last_scan(SCANS_ACCEPTED + 1)
    assert decode_image(io.BytesIO(few)).shape == (30, 40, 3)
    with pytest.raises(DataError, match="it has over 100 scans; accepted: at most 100"):
        decode_image(io.BytesIO(many))
    (tmp_path / "many.jpg").write_bytes(many)
    with pytest.raises(DataError, match="it has over 100 scans"):
        decode_image(tmp_path / "many.jpg")


def test_what_only_looks_like_scans_is_not_counted():
    plain = encode(Image.new("RGB", (4, 4)), "JPEG")
    comment = b"\xff\xfe" + (2 + 2 * 200).to_bytes(2) + SCAN * 200
    for content in (plain + SCAN * 200, plain[:2] + comment + plain[2:]):
        check_scans(content)
        assert decode_image(io.BytesIO(content)).shape == (4, 4, 3)


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
