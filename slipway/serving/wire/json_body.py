"""A JSON body as Python values, strictly: no key twice, no nesting without end, UTF-8.

A value takes up to a hundred times the memory of its text: objects and lists are counted before they are made, and bodies of
very many values are read one at a time.
"""

import json
import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson

from slipway.errors import RequestError
from slipway.serving.wire.tensors import MAX_SAMPLES

_MAX_OBJECTS = 4 * MAX_SAMPLES
"""A row is one, an image in base64 one or two."""
_MAX_LISTS = 1 << 22
"""A pixel may be one: of three channels, which take 8 bytes of text or more, so many are 32 MiB."""
_LIMITS = (
    ("{", _MAX_OBJECTS, f"objects; accepted: at most {_MAX_OBJECTS} in at most {MAX_SAMPLES} samples"),
    ("[", _MAX_LISTS, f"lists; accepted: at most {_MAX_LISTS}. Send fewer samples in a request, or V2's data flat or raw"),
)
_MANY_VALUES = 1 << 18
"""Some 20 MiB of them; a photograph in base64 is one, however large it is."""
_MAX_LOOKED_AT = 1000
"""Values, one by one, to find that none but numbers are many."""
_MAX_NAMED_IN = 1 << 22
"""Bytes of a text that is parsed again to name the key that stands twice."""
_one_large = threading.Lock()
_NOT_JSON_NUMBERS = (b"NaN", b"Infinity")


def reading(body: "bytes | memoryview") -> AbstractContextManager[Any]:
    """To be held, off the event loop, while the values of a body live: one of very many waits for the one before it."""
    is_large = len(body) > _MANY_VALUES and sum(_count(body, sign) for sign in b",[{") > _MANY_VALUES
    return _one_large if is_large else nullcontext()


def parse_object(body: "bytes | memoryview", accepted: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        body: UTF-8.
        accepted: What is, in a message.

    Raises:
        RequestError: it is something else, holds too many objects or lists, or an object in it has a key twice.
        RecursionError: it is nested hundreds of levels deep.
    """
    _check_counts(body)
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
    repeated = find_repeated_key(body, content)
    if repeated is not None:
        raise RequestError(f"The body holds {repeated} twice in one object; accepted: once.")
    return content


def find_repeated_key(text: "bytes | memoryview", content: dict[str, Any]) -> str | None:
    """What stands twice in one object of the JSON `text`, which was parsed as `content`, in words; None where nothing does.

    Raises:
        RecursionError: it is nested hundreds of levels deep.
    """
    # A key that stands twice leaves more quotes in the text than in what was parsed. Nothing else does.
    num_quotes = _drop_escapes(text).count(b'"')
    num_outer = len(content) + list(map(type, content.values())).count(str)  # all of them, in a table's row
    if num_quotes in (2 * num_outer, 2 * _count_strings(content)) or num_quotes == _count_quotes_written(content):
        return None
    if len(text) > _MAX_NAMED_IN:
        return "a key"
    repeated: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = Counter(key for key, _ in pairs)
        repeated.extend(key for key, count in keys.items() if count > 1)

    json.loads(bytes(text), object_pairs_hook=look)
    return f"the key {repeated[0][:60]!r}"


def _check_counts(body: "bytes | memoryview") -> None:
    """Of objects and lists, by the signs that they begin with; in a string these begin nothing."""
    for sign, most, told in _LIMITS:
        if len(body) <= 2 * most or _count(body, ord(sign)) <= most:
            continue
        text = np.frombuffer(_drop_escapes(body), np.uint8)
        is_in_string = np.logical_xor.accumulate(text == ord('"'))
        num = np.count_nonzero((text == ord(sign)) & ~is_in_string)
        if num > most:
            raise RequestError(f"The body holds {num} JSON {told}.")


def _drop_escapes(text: "bytes | memoryview") -> bytes:
    """A JSON text without what could hide where a string ends."""
    return bytes(text).replace(b"\\\\", b"").replace(b'\\"', b"")


def _count(body: "bytes | memoryview", sign: int) -> int:
    """As `bytes.count` does, in a tenth of the time where there are many, and without holding the interpreter."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == sign))


def _count_strings(content: dict[str, Any]) -> int:
    """Keys count too. A list whose first value is a number, however deep, counts as one of numbers.

    The number is too low where it is none, and where there are very many values besides.
    """
    num_strings = num_looked_at = 0
    waiting: list[dict[str, Any] | list[Any]] = [content]
    while waiting:
        holder = waiting.pop()
        num_strings += len(holder) if isinstance(holder, dict) else 0
        values = holder.values() if isinstance(holder, dict) else _find_others(holder)
        num_looked_at += 1 + len(values)
        if num_looked_at > _MAX_LOOKED_AT:
            break
        types = list(map(type, values))
        num_strings += types.count(str)
        if dict in types or list in types:
            waiting += [value for value in values if isinstance(value, (dict, list))]
    return num_strings


def _count_quotes_written(content: dict[str, Any]) -> int:
    """Those of the JSON that says the same, which takes a while where there are many numbers."""
    try:
        return _drop_escapes(orjson.dumps(content)).count(b'"')
    except orjson.JSONEncodeError:
        raise RecursionError from None


def _find_others(value: list[Any]) -> list[Any]:
    """The values of a list and of the first lists in it; none where the first value of all is a number."""
    firsts = []
    first: Any = value
    while isinstance(first, list) and first:
        firsts.append(first)
        first = first[0]
    if isinstance(first, (int, float)):
        return []
    return [first, *chain.from_iterable(islice(inner, 1, None) for inner in firsts)] if firsts else []
