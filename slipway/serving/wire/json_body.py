"""A JSON body as Python values, strictly: no key twice, no nesting without end, UTF-8.

A value takes up to a hundred times the memory of its text: objects are counted before they are made, and bodies of very many
values are read one at a time.
"""

import json
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson

from slipway.errors import RequestError
from slipway.serving.wire.tensors import MAX_SAMPLES

_TOO_DEEP = 32
_MAX_OBJECTS = 4 * MAX_SAMPLES
"""A row is one, an image in base64 one or two. Lists have no such bound: a pixel may be one."""
_MANY_VALUES = 1 << 18
"""Some 20 MiB of them; a photograph in base64 is one, however large it is."""
_one_large = threading.Lock()
_WHITE_SPACE = b" \t\r\n"
_NOT_JSON_NUMBERS = (b"NaN", b"Infinity")


def reading(body: "bytes | memoryview") -> AbstractContextManager[Any]:
    """To be held, off the event loop, while the values of a body live: one of very many waits for the one before it."""
    is_large = len(body) > _MANY_VALUES and sum(map(bytes(body).count, (b",", b"[", b"{"))) > _MANY_VALUES
    return _one_large if is_large else nullcontext()


def parse_object(body: "bytes | memoryview", accepted: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        body: UTF-8.
        accepted: What is, in a message.

    Raises:
        RequestError: it is something else, holds too many objects, or an object in it has a key twice.
        RecursionError: it is nested hundreds of levels deep.
    """
    _check_num_objects(body)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raw = bytes(body)
        hint = (
            " JSON has neither NaN nor Infinity; null stands for a missing value."
            if any(word in raw for word in _NOT_JSON_NUMBERS)
            else ""
        )
        raise RequestError(f"The body is not JSON ({error}); accepted: {accepted}.{hint}") from None
    if not isinstance(content, dict):
        raise RequestError(f"The body is not a JSON object; accepted: {accepted}.")
    # A key that stands twice leaves more quotes in the text than in what was parsed. Nothing else that is common does.
    if bytes(body).count(b'"') != 2 * _count_strings(content):
        _refuse_repeated_keys(body)
    return content


def _check_num_objects(body: "bytes | memoryview") -> None:
    """Braces in texts do not count: one that is followed by a quote or by its end begins an object."""
    if len(body) <= _MAX_OBJECTS or bytes(body).count(b"{") <= _MAX_OBJECTS:
        return
    dense = bytes(body).translate(None, _WHITE_SPACE)
    num_objects = dense.count(b'{"') + dense.count(b"{}")
    if num_objects > _MAX_OBJECTS:
        raise RequestError(
            f"The body holds {num_objects} JSON objects; accepted: at most {_MAX_OBJECTS} in at most {MAX_SAMPLES} samples."
        )


def _count_strings(value: object) -> int:
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + sum(map(_count_strings, value.values()))
    if isinstance(value, list) and not _is_of_numbers(value):
        return sum(map(_count_strings, value))
    return 0


def _is_of_numbers(value: Any) -> bool:
    """By the first of them: a list that holds strings after a number is only counted too low, and looked at again."""
    for _ in range(_TOO_DEEP):
        if not isinstance(value, list):
            break
        if not value:
            return True
        value = value[0]
    return isinstance(value, (int, float))


def _refuse_repeated_keys(body: "bytes | memoryview") -> None:
    json.loads(bytes(body), object_pairs_hook=_check_keys)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise RequestError(f"The body holds the key {key[:60]!r} twice in one object; accepted: once.")
        seen.add(key)
