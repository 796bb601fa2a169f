"""What clients send: the same images as JPEG files, as V2 JSON and as V2 binary tensors, whole requests ready for the wire."""

import base64
import io
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODEL = "resnet18"
INFER_PATH = f"/v2/models/{MODEL}/infer"
_JPEG_QUALITY = 90

Pixels = NDArray[np.uint8]
Payload = Callable[[Pixels], bytes]
"""The whole request for one image [height, width, 3]."""


def jpeg_body(pixels: Pixels) -> bytes:
    """POST of the file itself."""
    return _post(INFER_PATH, _jpeg(pixels), "image/jpeg")


def jpeg_upload(path: str, field: str) -> Payload:
    """POST of a form with the file in `field`, as browsers send it."""

    def build(pixels: Pixels) -> bytes:
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"\r\n'
        body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + _jpeg(pixels) + f"\r\n--{boundary}--\r\n".encode()
        return _post(path, body, f"multipart/form-data; boundary={boundary}")

    return build


def jpeg_base64(path: str, field: str) -> Payload:
    """POST of a JSON object with the file in `field`."""
    return lambda pixels: _post(path, json.dumps({field: base64.b64encode(_jpeg(pixels)).decode()}).encode(), "application/json")


def v2_json(pixels: Pixels) -> bytes:
    """The tensor as a flat list."""
    content = {"inputs": [{**_describe(pixels), "data": pixels.ravel().tolist()}]}
    return _post(INFER_PATH, json.dumps(content, separators=(",", ":")).encode(), "application/json")


def v2_binary(pixels: Pixels) -> bytes:
    """The tensor as bytes after a JSON header; the answer is asked for as JSON, as every server gives it."""
    header = json.dumps({"inputs": [{**_describe(pixels), "parameters": {"binary_data_size": pixels.nbytes}}]}).encode()
    extra = f"Inference-Header-Content-Length: {len(header)}\r\n"
    return _post(INFER_PATH, header + pixels.tobytes(), "application/octet-stream", extra)


def write_requests(folder: Path, build: Payload, images: Sequence[Pixels] | Pixels) -> Path:
    """One file an image."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        (folder / f"{number:03}").write_bytes(build(pixels))
    return folder


def _describe(pixels: Pixels) -> dict[str, object]:
    return {"name": "image", "shape": [1, *pixels.shape], "datatype": "UINT8"}


def _jpeg(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _post(path: str, body: bytes, media_type: str, extra: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def read_probabilities(answer: bytes, num_classes: int) -> list[float]:
    """The list of `num_classes` numbers in a JSON answer, wherever its server puts it.

    Raises:
        ValueError: there is none.
    """
    waiting = [json.loads(answer)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            if len(value) == num_classes and all(isinstance(entry, float) for entry in value):
                return value
            waiting += value
    raise ValueError(f"there are no {num_classes} probabilities in {answer[:500]!r}")
