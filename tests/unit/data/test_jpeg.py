import io

import numpy as np
import pytest
from PIL import Image

from slipway.data.decoding import decode_image
from slipway.data.jpeg import check_head, check_scans
from slipway.errors import DataError

SCAN, END = b"\xff\xda", b"\xff\xd9"
APP1, APP2, APP5, APP13, TABLES, FRAME, COMMENT = 0xE1, 0xE2, 0xE5, 0xED, 0xDB, 0xC0, 0xFE
NOISE = Image.effect_noise((40, 30), 50)
EXIF = b"Exif\0\0II*\0\x08\0\0\0"
PHOTOSHOP = b"Photoshop 3.0\0"


def encode(mode="RGB", **options):
    stream = io.BytesIO()
    NOISE.convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def segment(code, payload=b""):
    return bytes([0xFF, code]) + (2 + len(payload)).to_bytes(2) + payload


def put_into_head(*segments):
    content = encode()
    return content[:2] + b"".join(segments) + content[2:]


def repeat_last_scan(num_scans, mode="RGB"):
    content = encode(mode, progressive=True)
    return content[:-2] + content[content.rindex(SCAN) : -2] * (num_scans - content.count(SCAN)) + END


@pytest.mark.parametrize(
    ("segments", "found"),
    [
        (segment(APP1, EXIF + bytes(3300)) * 9900, "over 1048576 bytes of Exif; accepted: at most 1048576"),
        (segment(APP1, EXIF + bytes(65_000)) * 17, "over 1048576 bytes of Exif"),
        (segment(APP13, PHOTOSHOP + b"8BIM\0\1\0\0\0\0\0\0" * 5400) * 17, "over 1048576 bytes of Photoshop's"),
        (segment(APP2, b"MPF\0" + bytes(2050)), "over 2048 bytes of MPF"),
        (segment(TABLES, bytes(65 * 1000)) * 2, "over 65536 bytes of tables and frames"),
        (segment(FRAME, b"\x08\0\x1e\0\x28\x03" + bytes(60_000)) * 2, "over 65536 bytes of tables and frames"),
        (segment(APP5) + bytes(4097), "over 4096 bytes outside segments"),
        (segment(APP5) * 10_000, "over 10000 segments"),
        (segment(APP5) + b"\0" + segment(APP5) * 10_000, "over 10000 segments"),
        (END + segment(APP5) * 10_000, "over 10000 segments"),
        (b"\xff\xf0" * 10_000, "over 10000 segments"),
        (b"\xff" * 10_000, "over 10000 segments"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_head_that_pillow_would_read_on_and_on_is_refused(segments, found):
    bomb = put_into_head(segments)
    with pytest.raises(DataError, match=f"its head has {found}"):
        check_head(bomb)
    with pytest.raises(DataError, match=f"its head has {found}"):
        decode_image(io.BytesIO(bomb))


def test_what_cameras_and_editors_write_is_read():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = bytes(64_000)
    profile, notes, edits = bytes(1 << 20), b"<x:xmpmeta/>" * 40_000, b"8BIM\4\4\0\0\0\0\xff\xf0" + bytes(65_520)
    parts = [profile[place : place + 65_000] for place in range(0, len(profile), 65_000)]
    content = put_into_head(
        segment(APP1, exif.tobytes()),
        *(
            segment(APP1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + notes[place : place + 65_000])
            for place in range(0, len(notes), 65_000)
        ),
        *(segment(APP2, b"ICC_PROFILE\0" + bytes([place + 1, len(parts)]) + part) for place, part in enumerate(parts)),
        *(segment(APP13, (PHOTOSHOP + edits)[:65_533]) for _ in range(5)),
        segment(APP2, b"MPF\0II*\0\x08\0\0\0" + bytes(200)),
        segment(COMMENT, b"a comment"),
        bytes(1000) + b"\xff\xff\xff",
    )
    upright = decode_image(io.BytesIO(encode()))
    with pytest.warns(UserWarning, match="malformed MPO file"):
        np.testing.assert_array_equal(decode_image(io.BytesIO(content)), np.rot90(upright, -1))


def test_a_file_of_two_pictures_is_read():
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert decode_image(stream).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_scans_that_encoders_write_are_accepted(mode, subsampling):
    content = encode(mode, progressive=True, subsampling=subsampling)
    check_scans(content)
    assert decode_image(io.BytesIO(content)).shape[:2] == (30, 40)


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(tmp_path):
    few, many = repeat_last_scan(28), repeat_last_scan(29)  # of the first ten, two have three components
    assert decode_image(io.BytesIO(few)).shape == (30, 40, 3)
    with pytest.raises(DataError, match="its scans have over 32 components in all; accepted: at most 32"):
        decode_image(io.BytesIO(many))
    (tmp_path / "many.jpg").write_bytes(many)
    with pytest.raises(DataError, match="its scans have over 32 components"):
        decode_image(tmp_path / "many.jpg")


def test_a_scan_counts_for_each_of_its_components():
    content = encode(progressive=True)
    first = content[content.index(SCAN) : content.index(segment(0xC4)[:2], content.index(SCAN))]
    check_scans(content[:-2] + first * 6 + END)
    with pytest.raises(DataError, match="over 32 components"):
        check_scans(content[:-2] + first * 7 + END)


def test_what_only_looks_like_scans_is_not_counted():
    plain = encode()
    comment = segment(COMMENT, SCAN * 200)
    for content in (plain + SCAN * 200, plain[:2] + comment + plain[2:]):
        check_scans(content)
        assert decode_image(io.BytesIO(content)).shape == (30, 40, 3)


def test_segments_behind_the_first_scan_are_not_followed_without_end():
    content = put_into_head(segment(COMMENT, SCAN * 200))
    with pytest.raises(DataError, match="it has over 10000 segments; accepted: at most 10000"):
        check_scans(content[:-2] + segment(APP5) * 20_000 + END)
