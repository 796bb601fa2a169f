"""A client's values in a message."""

from collections.abc import Iterator

_MAX_CHARACTERS = 60
_MAX_VALUES = 60


def show(value: object) -> str:
    """A value with JSON's words for null, true and false. Of a large one only the beginning is looked at."""
    text = ""
    for piece in _write(value):
        text += piece
        if len(text) > _MAX_CHARACTERS:
            return text[:_MAX_CHARACTERS] + "..."
    return text


def _write(value: object) -> Iterator[str]:
    if isinstance(value, (list, dict)) and len(value) > _MAX_VALUES:
        yield f"{'list' if isinstance(value, list) else 'object'} of {len(value)}"
    elif isinstance(value, list):
        yield "["
        for place, inner in enumerate(value):
            yield ", " if place else ""
            yield from _write(inner)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for place, (key, inner) in enumerate(value.items()):
            yield ", " if place else ""
            yield from _write(key)
            yield ": "
            yield from _write(inner)
        yield "}"
    elif isinstance(value, str):
        yield repr(value[: _MAX_CHARACTERS + 1])
    elif value is None:
        yield "null"
    else:
        yield str(value).lower() if isinstance(value, bool) else repr(value)
