"""Requests in every form that the predictor reads, and the same with something wrong."""

import base64
import gzip
import io
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sent:
    """A request as it goes out."""

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class RawSent:
    """Bytes as they go out."""

    data: bytes
    leaves: bool
    """The client closes its sending side behind them: whatever it has asked may go unanswered (docs/predictor.md, Life)."""


def make_valid_requests(name: str, *, takes_images: bool) -> list[Sent]:
    """One request in every form that the predictor reads."""
    v1, v2 = f"/v1/models/{name}:predict", f"/v2/models/{name}/infer"
    as_json, as_binary = (("content-type", "application/json"),), "application/octet-stream"
    requests = [_post(path, as_json, json.dumps(content).encode()) for path, content in _json_bodies(v1, v2, takes_images)]
    requests += [
        _post(path, (*as_json, ("content-encoding", "gzip")), gzip.compress(sent.body))
        for sent in requests[:2]
        for path in [sent.path]
    ]
    header, raw = _binary_body(takes_images)
    size = ("inference-header-content-length", str(len(header)))
    requests.append(_post(v2, (("content-type", as_binary), size), header + raw))
    if takes_images:
        for kind in ("PNG", "JPEG", "WEBP"):
            image = _image_file(kind)
            requests.append(_post(f"{v1}?top_k=2", (("content-type", f"image/{kind.lower()}"),), image))
            requests.append(_post(v2, (("content-type", as_binary),), image))
            requests.append(_post(v1, (("content-type", "multipart/form-data; boundary=x"),), _form(image, image)))
    return requests


def _post(path: str, headers: Headers, body: bytes) -> Sent:
    return Sent("POST", path, headers, body)


def _json_bodies(v1: str, v2: str, takes_images: bool) -> list[tuple[str, Any]]:
    if takes_images:
        pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 4, 3], "data": pixels.ravel().tolist()}
        wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
        encoded = base64.b64encode(_image_file("PNG")).decode()
        return [
            (v2, {"id": "f", "inputs": [tensor], "outputs": wanted}),
            (v2, {"inputs": [{**tensor, "data": pixels.tolist()}], "parameters": {"binary_data_output": True}}),
            (v1, {"instances": [{"b64": encoded}, {"image": {"b64": encoded}}], "top_k": 1}),
            (v1, {"instances": pixels.tolist()}),
        ]
    tensors = [
        {"name": "age", "datatype": "FP32", "shape": [2], "data": [20.5, None]},
        {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Oslo", "Köln"]},
    ]
    return [
        (v2, {"id": "f", "inputs": tensors, "outputs": [{"name": "probabilities"}]}),
        (v1, {"instances": [{"age": 20, "city": "Oslo"}, {"city": None}], "top_k": 1}),
        (v1, {"inputs": {"age": [20, 1e3], "city": ["Oslo", "Rome"]}}),
    ]


def _binary_body(takes_images: bool) -> tuple[bytes, bytes]:
    if takes_images:
        tensors = [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 4, 3], "parameters": {"binary_data_size": 24}}]
        return json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode(), bytes(range(24))
    age, city = np.array([20, 30], "<f4").tobytes(), b"\x04\0\0\0Oslo\x04\0\0\0Rome"
    tensors = [
        {"name": "age", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": len(age)}},
        {"name": "city", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(city)}},
    ]
    return json.dumps({"inputs": tensors}).encode(), age + city


def _image_file(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)).save(stream, format=kind)
    return stream.getvalue()


def _form(*files: bytes) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="f"; filename="{place}.png"\r\nContent-Type: image/png\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for place, data in enumerate(files)
    ]
    return b"".join(parts) + b"--x--\r\n"


_NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"1e38",
    b"4294967296",
    b"9223372036854775808",
    b"-0.0",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"9" * 400,
)
_PIECES = (
    b"[" * 300,
    b"{",
    b'"',
    b",",
    b"\\u0000",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"inputs":1,',
    b"\0" * 40,
    b"--x",
    b"\r\n\r\n",
    b"[[[]]]",
)
_SIZES = ("-1", "0", "1", "99999999999999999999", "18446744073709551616", "1e3", "", "0x10", " 12 ", "12, 13", "²")
_TYPES = (
    "",
    "application/json",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "text/html",
    "application/xml",
    "json",
    "a" * 300,
)
_CODINGS = ("gzip", "deflate", "br", "identity", "gzip, gzip", "x")
_HEADERS = st.one_of(
    st.tuples(st.just("inference-header-content-length"), st.sampled_from(_SIZES)),
    st.tuples(st.just("content-type"), st.sampled_from(_TYPES)),
    st.tuples(st.just("content-encoding"), st.sampled_from(_CODINGS)),
    st.tuples(st.just("x-request-id"), st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=200)),
    st.tuples(st.just("x-timeout-seconds"), st.sampled_from(("0", "-1", "nan", "inf", "1e400", "x", "60"))),
    st.tuples(st.just("accept"), st.sampled_from(("text/html", "*/*", ""))),
    st.tuples(st.just("expect"), st.sampled_from(("100-continue", "x"))),
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["BYTES", "FP32", "b64"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "b64", "parameters", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
_PATHS = st.one_of(
    st.sampled_from(
        (
            "/",
            "/docs",
            "/openapi.json",
            "/metrics",
            "/v2",
            "/v2/models",
            "/v2/models//infer",
            "/v1/models/model:explain",
            "//",
            "/v2/models/model/versions//infer",
            "/v2/models/model/versions/1/infer",
            "/v2/repository/index",
            "/%00",
            "/..;/",
        )
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60).map(lambda text: "/" + text),
)
_METHODS = st.sampled_from(("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "FOO"))


@st.composite
def mutated_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    """Bytes of it changed, left out or put in, in a few places."""
    content = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        change = draw(st.integers(0, 4))
        if change == 0 and content:
            content[place] = draw(st.integers(0, 255))
        elif change == 1:
            del content[place : place + draw(st.integers(1, 40))]
        elif change == 2:
            content[place:place] = draw(st.sampled_from(_PIECES + _NUMBERS))
        elif change == 3:
            content[place:place] = content[draw(st.integers(0, len(content))) :][:200]
        else:
            content[place : place + 1] = draw(st.binary(max_size=8))
    return bytes(content)


@st.composite
def mutated_json(draw: st.DrawFn, body: bytes) -> bytes:
    """One value anywhere in it replaced, removed or given another name."""
    content = json.loads(body)
    node, key = content, draw(st.sampled_from(sorted(content)))
    while isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
        node = node[key]
        key = draw(st.sampled_from(sorted(node))) if isinstance(node, dict) else draw(st.integers(0, len(node) - 1))
    change = draw(st.integers(0, 3))
    if change == 0:
        del node[key]
    elif change == 1 and isinstance(node, dict):
        node[draw(st.text(max_size=8))] = node.pop(key)
    else:
        node[key] = draw(_JSON)
    return json.dumps(content).encode()


@st.composite
def mutated_requests(draw: st.DrawFn, valid: list[Sent]) -> Sent:
    """A valid request with something changed in its body, its head, or both."""
    sent = draw(st.sampled_from(valid))
    what = draw(st.integers(0, 5))
    if ("content-encoding", "gzip") in sent.headers and what <= 2:
        return replace(sent, body=gzip.compress(draw(mutated_json(gzip.decompress(sent.body)))))
    if what <= 1 and sent.body[:1] == b"{":
        body = draw(mutated_json(sent.body)) if "inference-header" not in str(sent.headers) else draw(mutated_bytes(sent.body))
        return replace(sent, body=body)
    if what <= 3:
        return replace(sent, body=draw(mutated_bytes(sent.body)))
    if what == 4:
        added = tuple(draw(st.lists(_HEADERS, min_size=1, max_size=3)))
        kept = sent.headers if draw(st.booleans()) else tuple(pair for pair in sent.headers if pair[0] not in dict(added))
        return replace(sent, headers=kept + added)
    return replace(sent, method=draw(_METHODS), path=draw(_PATHS | st.just(sent.path)))


def raw_requests(valid: list[Sent]) -> st.SearchStrategy[RawSent]:
    """A valid request as it goes over the wire with something changed anywhere, or no request at all."""
    heads = [
        f"{sent.method} {sent.path} HTTP/1.1\r\nhost: a\r\n".encode()
        + b"".join(f"{name}: {value}\r\n".encode() for name, value in sent.headers)
        + f"content-length: {len(sent.body)}\r\n\r\n".encode()
        + sent.body
        for sent in valid
    ]
    data = st.sampled_from(heads).flatmap(mutated_bytes) | st.binary(max_size=200)
    return st.builds(RawSent, data=data, leaves=st.sampled_from((False, False, False, True)))
