import io

import numpy as np
import pytest
from PIL import Image

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.multipart import parse_images

COLOR = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),), outputs=())
HEAD = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'


def png(red: int = 9) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), (red, 0, 0)).save(stream, format="PNG")
    return stream.getvalue()


def part(content: bytes, head: bytes = HEAD) -> bytes:
    return head + b"\r\n\r\n" + content


def form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + each + b"\r\n" for each in parts) + b"--x--\r\n"


def reds(body: bytes, content_type: str = "multipart/form-data; boundary=x") -> list[int]:
    images = parse_images(body, content_type, COLOR).inputs["image"]
    return [int(value) for value in np.asarray(images)[:, 0, 0, 0]]


@pytest.mark.parametrize(
    "body",
    [
        form(part(png(1)), part(png(2))),
        b"This is a message in parts.\r\n" + form(part(png(1)), part(png(2))),
        form(part(png(1)), part(png(2))) + b"\r\nand an end\r\n--x\r\n",
        form(part(png(1)), part(png(2))).replace(b"--x\r\n", b"--x \t\r\n"),
        form(part(png(1)), part(png(2)))[:-2],
        form(part(png(1), b"content-type:image/png"), part(png(2), b'CONTENT-DISPOSITION: form-data; filename=""')),
        form(
            part(png(1), b"Content-Type: Image/PNG"), part(png(2), b"Content-Disposition: form-data; filename*=utf-8''%C3%A4.png")
        ),
    ],
    ids=["plain", "preamble", "epilogue", "padding", "no line end", "other headers", "other names"],
)
def test_each_file_of_a_form_is_an_image_in_order(body):
    assert reds(body) == [1, 2]


def test_a_boundary_may_hold_any_sign_that_a_pattern_would_take_for_its_own():
    body = form(part(png(3))).replace(b"--x", b"--a.*(b)")
    assert reds(body, 'multipart/form-data; boundary="a.*(b)"') == [3]
    with pytest.raises(RequestError, match="does not hold the boundary that the Content-Type names"):
        reds(body, "multipart/form-data; boundary=axx(b)")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not multipart/form-data: it does not hold the boundary"),
        (b"--x--", "holds no file"),
        (b"--x\r\n", "breaks off before its last boundary"),
        (form(part(png()))[:-6], "breaks off before its last boundary"),
        (b"--x\r\n\r\n\r\n--x--", "field '' is no file"),
        (b"--x\r\nContent-Type: image/png\r\n--x--", "Part 1 of the form has no empty line behind its headers"),
        (form(part(png()), b"a: b"), "Part 2 of the form has no empty line behind its headers; accepted: one within 2048 bytes"),
        (form(part(png(), HEAD + b"\r\na: " + b"b" * 2000)), "Part 1 of the form has no empty line"),
        (form(part(png(), b"image")), "Part 1 of the form has a header without a colon"),
        (form(part(png(), b'Content-Disposition: form-data; name="age"')), "field 'age' is no file"),
        (form(part(b"text")), r"The image 1 of the form \(a.png\) cannot be read: it is not a JPEG"),
        (form(part(png() + b"\r\n--xa")), "Part 2 of the form has no empty line behind its headers"),
        (form(part(png() + b"\r\n--xa: b\r\n\r\n")), "Part 2 of the form begins with a line that is longer than the boundary"),
        (form(*[part(b"")] * 1025), "too many files; accepted: at most 1024"),
    ],
)
def test_what_is_no_form_of_images_is_refused_by_its_part(body, told):
    with pytest.raises(RequestError, match=told):
        reds(body)


@pytest.mark.parametrize("piece", [b"\r\n--xa", b"\r\n--x ", b"\r\n--x\r\n", b"\r\n--x-", b"\r\n--x\r\n\r\n"])
def test_a_form_of_millions_of_boundaries_is_refused_before_a_part_is_read(piece):
    bomb = form(part(b"no image"))[: -len(b"--x--\r\n") - 2] + piece * 1_000_000 + b"\r\n--x--\r\n"
    with pytest.raises(RequestError, match="too many files"):
        reds(bomb)


def test_a_form_of_the_most_files_is_read():
    assert reds(form(*[part(png())] * 1024)) == [9] * 1024
