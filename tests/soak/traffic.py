"""The kinds of requests that the predictor meets in a day, each with the answers that are right for it."""

import asyncio
import gzip
import io
import json
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.soak.connection import Answer, Connection

INFER = "/v2/models/model/infer"
PREDICT = "/v1/models/model:predict"
JSON = "application/json"
BINARY = "application/octet-stream"
FORM = "multipart/form-data; boundary=border"
TOLERANCE = 1e-5
SLOW_SECONDS = 0.05

Pixels = NDArray[np.uint8]
Bright = Mapping[str, NDArray[np.float32]]
"""By model version, what it answers to `BRIGHT`."""

BRIGHT: Pixels = np.random.default_rng(1).integers(0, 256, (6, 7, 3), dtype=np.uint8)
LARGE: Pixels = np.random.default_rng(2).integers(0, 256, (480, 640, 3), dtype=np.uint8)


class WrongAnswerError(AssertionError):
    """The predictor answered what it should not."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client with its connection and what it knows of the right answers."""

    connection: Connection
    expected: Bright


async def ask_json(client: Client) -> None:
    tensor = {"name": "image", "shape": [1, *BRIGHT.shape], "datatype": "UINT8", "data": BRIGHT.ravel().tolist()}
    answer = await client.connection.ask(post(INFER, json.dumps({"id": "a-1", "inputs": [tensor]}).encode()))
    content = json.loads(require(answer, 200).body)
    if content["id"] != "a-1":
        raise WrongAnswerError(f"the answer has the id of another request: {content['id']}")
    require_values(client, content["model_version"], content["outputs"][0]["data"])


async def ask_packed_json(client: Client) -> None:
    tensor = {"name": "image", "shape": [1, *BRIGHT.shape], "datatype": "UINT8", "data": [BRIGHT.tolist()]}
    body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
    content = json.loads(require(await client.connection.ask(post(INFER, body, packed=True)), 200).body)
    require_values(client, content["model_version"], np.ravel(content["outputs"][0]["data"]))


async def ask_binary(client: Client) -> None:
    answer = require(await client.connection.ask(binary_request(BRIGHT.tobytes())), 200)
    content = json.loads(answer.body)
    require_values(client, content["model_version"], content["outputs"][0]["data"])


async def ask_instances(client: Client) -> None:
    body = json.dumps({"instances": [BRIGHT.tolist()]}).encode()
    require(await client.connection.ask(post(PREDICT, body)), 200)


async def ask_image(client: Client) -> None:
    content = json.loads(require(await client.connection.ask(post(INFER, encode(BRIGHT, "PNG"), "image/png")), 200).body)
    require_values(client, content["model_version"], content["outputs"][0]["data"])


async def ask_large_image(client: Client) -> None:
    require(await client.connection.ask(post(INFER, LARGE_JPEG, "image/jpeg")), 200)


async def ask_form(client: Client) -> None:
    file = encode(BRIGHT, "WEBP")
    part = b'--border\r\nContent-Disposition: form-data; name="file"; filename="a.webp"\r\nContent-Type: image/webp\r\n\r\n'
    body = b"".join([part + file + b"\r\n"] * 3) + b"--border--\r\n"
    content = json.loads(require(await client.connection.ask(post(INFER, body, FORM)), 200).body)
    if content["outputs"][0]["shape"] != [3, 3]:
        raise WrongAnswerError(f"three images gave outputs of shape {content['outputs'][0]['shape']}")


async def ask_about(client: Client) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/model", "/metrics"):
        require(await client.connection.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()), 200)


async def ask_too_late(client: Client) -> None:
    """The one 5xx that is asked for."""
    answer = await client.connection.ask(post(INFER, encode(BRIGHT, "PNG"), "image/png", "x-timeout-seconds: 0.000001\r\n"))
    require(answer, 504)


async def ask_badly(client: Client) -> None:
    for request, status in BAD:
        answer = require(await client.connection.ask(request), status)
        if not json.loads(answer.body)["error"]:
            raise WrongAnswerError(f"{status} without a sentence")


async def leave_early(client: Client) -> None:
    await client.connection.close()
    await client.connection.send(post(INFER, LARGE_JPEG, "image/jpeg"))
    await client.connection.close(abort=True)
    request = post(INFER, LARGE_JPEG, "image/jpeg")
    await client.connection.send(request[: len(request) // 2])
    await client.connection.close()


async def send_slowly(client: Client) -> None:
    await client.connection.close()  # A kept one may be closed by the server between the pieces' first and second.
    request = binary_request(BRIGHT.tobytes())
    for start in range(0, len(request), 40):
        await client.connection.send(request[start : start + 40])
        await asyncio.sleep(SLOW_SECONDS)
    require(await client.connection.read(), 200)


async def read_slowly(client: Client) -> None:
    await client.connection.close()
    await client.connection.send(post(INFER, encode(BRIGHT, "PNG"), "image/png"))
    require(await client.connection.read(pause_seconds=SLOW_SECONDS), 200)


KINDS: tuple[tuple[Callable[[Client], Awaitable[None]], int], ...] = (
    (ask_json, 20),
    (ask_packed_json, 5),
    (ask_binary, 20),
    (ask_instances, 5),
    (ask_image, 15),
    (ask_large_image, 5),
    (ask_form, 5),
    (ask_about, 5),
    (ask_too_late, 3),
    (ask_badly, 5),
    (leave_early, 5),
    (send_slowly, 2),
    (read_slowly, 2),
)
"""Each with how often it comes among the others."""


def require(answer: Answer, status: int) -> Answer:
    """The answer, where it has this status."""
    if answer.status != status:
        raise WrongAnswerError(f"status {answer.status} in place of {status}: {answer.body[:300]!r}")
    return answer


def require_values(client: Client, version: str, values: NDArray[np.float64] | list[float]) -> None:
    """Whether an answer to `BRIGHT` is the one of the version that it names."""
    if not np.allclose(values, client.expected[version], atol=TOLERANCE):
        raise WrongAnswerError(f"version {version} answered {values}; its model says {client.expected[version]}")


def post(path: str, body: bytes, media_type: str = JSON, extra: str = "", *, packed: bool = False) -> bytes:
    extra += "Content-Encoding: gzip\r\n" if packed else ""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def binary_request(data: bytes, *, stated: int | None = None) -> bytes:
    size = len(data) if stated is None else stated
    tensor = {"name": "image", "shape": [1, *BRIGHT.shape], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    header = json.dumps({"inputs": [tensor]}).encode()
    return post(INFER, header + data, BINARY, f"Inference-Header-Content-Length: {len(header)}\r\n")


def encode(pixels: Pixels, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=form, lossless=True)
    return stream.getvalue()


def claim_gigapixels() -> bytes:
    """A PNG of a few bytes whose head says that it is 60000 pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def json_tensor(**changes: object) -> bytes:
    tensor = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [0] * 12}
    return post(INFER, json.dumps({"inputs": [{**tensor, **changes}]}).encode())


LARGE_JPEG = encode(LARGE, "JPEG")
BAD: tuple[tuple[bytes, int], ...] = (
    (json_tensor(shape=[1, 2, 2, 4]), 400),
    (json_tensor(datatype="FP99"), 400),
    (json_tensor(name="picture"), 400),
    (json_tensor(data=[0] * 11), 400),
    (json_tensor(data=[300] * 12), 400),
    (json_tensor(data=[[0], [0, 0]]), 400),
    (post(INFER, b"{"), 400),
    (post(INFER, b""), 400),
    (post(PREDICT, b'{"instances": 1}'), 400),
    (binary_request(BRIGHT.tobytes()[:-1]), 400),
    (binary_request(BRIGHT.tobytes(), stated=10**9), 400),
    (post(INFER, claim_gigapixels(), "image/png"), 400),
    (post(INFER, LARGE_JPEG[:1000], "image/jpeg"), 400),
    (post(INFER, b"no form", FORM), 400),
    (post(INFER, b"text", "application/pdf"), 415),
    (post(INFER, gzip.compress(bytes(64 << 20)), packed=True), 413),
    (post("/v2/models/other/infer", b"{}"), 404),
    (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (b"GET /v2/models/model/infer HTTP/1.1\r\nHost: a\r\n\r\n", 405),
)
"""Requests and the status that each deserves."""
