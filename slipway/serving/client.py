"""Asking a predictor, with the standard library alone."""

import http.client
import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from slipway.errors import RequestError, ServerError

if TYPE_CHECKING:
    from slipway.tasks.task import Answer

_TIMEOUT_SECONDS = 30.0
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_ANY_SIZE = -1
_BAD_REQUEST = range(400, 500)


def predict_image(url: str, model_name: str, image: Path, *, token: str = "") -> "list[Answer]":
    """Ask the predictor at `url` (scheme, host, port) what an image file shows; `token` is the bearer token that it may want.

    Raises:
        RequestError: the file is missing or no JPEG, PNG or WebP, or the model does not take it.
        ServerError: the predictor cannot be reached, or failed.
    """
    body = _read_image(image)
    return _ask(url, model_name, lambda _: body, media_type=_media_type(image, body), token=token)


def predict_row(url: str, model_name: str, values: Mapping[str, str], *, token: str = "") -> "list[Answer]":
    """Ask the predictor at `url` (scheme, host, port) for the class of a table's row, given as text by column.

    A column that is left out counts as missing.

    Raises:
        RequestError: a column is not known, or its value no number where the model takes one.
        ServerError: the predictor cannot be reached, or failed.
    """
    return _ask(url, model_name, lambda inputs: _write_row(inputs, values), token=token)


def _ask(
    url: str,
    model_name: str,
    write_body: Callable[[list[dict[str, Any]]], bytes],
    *,
    token: str,
    media_type: str = "application/json",
) -> "list[Answer]":
    import numpy as np

    from slipway.tasks.registry import load_task

    address = f"{url.rstrip('/')}/v2/models/{quote(model_name, safe='')}"
    metadata = request_json(address, token=token)
    try:
        inputs, task, class_names = metadata["inputs"], metadata["parameters"]["task"], metadata["parameters"]["class_names"]
    except (KeyError, TypeError):
        raise ServerError(f"{url} answers, but is not Slipway's predictor; `slipway serve` starts one.") from None
    answer = request_json(f"{address}/infer", write_body(inputs), media_type=media_type, token=token)
    outputs = {
        entry["name"]: np.array(entry["data"], dtype=object if entry["datatype"] == "BYTES" else None).reshape(entry["shape"])
        for entry in answer["outputs"]
    }
    return load_task(task).decode(outputs, class_names)


def _write_row(inputs: list[dict[str, Any]], values: Mapping[str, str]) -> bytes:
    columns = {entry["name"]: entry["datatype"] for entry in inputs if entry["shape"] == [_ANY_SIZE]}
    if len(columns) < len(inputs):
        raise RequestError("The model takes an image, not the columns of a row; accepted: an image as JPEG, PNG or WebP.")
    for name in values:
        if name not in columns:
            nearest = get_close_matches(name, columns, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise RequestError(f"The model has no column {name!r}.{hint} Accepted: {', '.join(columns)}.")
    tensors = [
        {"name": name, "datatype": datatype, "shape": [1], "data": [_parse_cell(name, datatype, values.get(name, ""))]}
        for name, datatype in columns.items()
    ]
    return json.dumps({"inputs": tensors}).encode()


def _parse_cell(column: str, datatype: str, text: str) -> str | float | None:
    if not text:
        return None
    if datatype == "BYTES":
        return text
    if datatype != "FP32":
        try:
            return int(text)
        except ValueError:
            raise RequestError(f"Column {column!r} is {text!r}; accepted: an integer.") from None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"Column {column!r} is {text!r}; accepted: a number, or nothing where it is missing.")
    return number


def request_json(
    url: str,
    body: bytes | None = None,
    *,
    media_type: str = "application/json",
    timeout_seconds: float = _TIMEOUT_SECONDS,
    token: str = "",
) -> dict[str, Any]:
    """GET `url`, or POST `body` to it, and parse the answer.

    Raises:
        RequestError: the server refused the request; the message is the server's.
        ServerError: it cannot be reached, failed, or did not answer in time.
    """
    if not _is_http(url):
        raise RequestError(f"The predictor's address is {url!r}; accepted: http://HOST:PORT or https://HOST:PORT.")
    headers = {"Content-Type": media_type} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310  # the scheme was checked
    try:
        with _opener(url).open(request, timeout=timeout_seconds) as response:
            content: dict[str, Any] = json.loads(response.read())
            return content
    except urllib.error.HTTPError as error:
        with error:
            message = _error_message(error)
        if error.code in _BAD_REQUEST:
            raise RequestError(message) from None
        raise ServerError(f"{url}: {message}") from None
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerError(f"{url} does not answer ({reason}). Is the predictor running? `slipway serve` starts it.") from None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an IPv6 address, a port out of range
        return False


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Proxies from the environment are for other machines."""
    local = urlsplit(url).hostname in _LOCAL_HOSTS
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def _error_message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"{error.code} {error.reason}: {text[:200]}"


def _read_image(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise RequestError(f"{image} cannot be read ({error.strerror}); accepted: an image as JPEG, PNG or WebP.") from None


def _media_type(image: Path, body: bytes) -> str:
    """By what the file begins with: names lie."""
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "image/webp"
    raise RequestError(f"{image} is not an image that the predictor reads; accepted: JPEG, PNG, WebP.")
