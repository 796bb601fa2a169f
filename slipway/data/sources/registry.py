"""The sources by URI scheme. A source's module is imported when it is asked for."""

from difflib import get_close_matches
from importlib import import_module
from typing import cast
from urllib.parse import unquote

from slipway.data.sources.base import Source, SourceUri
from slipway.errors import DataError

_SCHEMES = ("sklearn", "idx", "cifar10", "folder", "csv")


def load_source(scheme: str) -> Source:
    """The module that reads `scheme`."""
    return cast(Source, import_module(f"slipway.data.sources.{scheme}"))


def parse_source(text: str) -> tuple[SourceUri, Source]:
    """Parse a source's URI and find who reads it.

    Options follow `?`, percent-encoded where they hold `&`, `%` or `,`; a source without options takes `?` as part of its path.

    Raises:
        DataError: it is no URI, or its scheme or an option is not known; the message names the nearest valid one.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        nearest = get_close_matches(scheme.lower(), _SCHEMES, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]}://?" if nearest else ""
        accepted = ", ".join(load_source(name).FORM for name in _SCHEMES)
        raise DataError(f"data.source is {text!r}: no such kind of source.{hint} Accepted: {accepted}.")
    source = load_source(scheme)
    location, query = rest, ""
    if source.OPTIONS:
        location, _, query = rest.partition("?")
    if not location:
        raise DataError(f"data.source is {text!r}: nothing follows {scheme}://. Accepted: {source.FORM}.")
    return SourceUri(text=text, scheme=scheme, location=location, options=_parse_options(text, query, source)), source


def _parse_options(text: str, query: str, source: Source) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in source.OPTIONS:
            nearest = get_close_matches(name, source.OPTIONS, n=1, cutoff=0.4)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise DataError(f"{text}: unknown option {name!r}.{hint} Accepted: {', '.join(source.OPTIONS)}.")
        if name in options:
            raise DataError(f"{text}: option {name!r} is given twice. Give it once, values separated by commas.")
        options[name] = value
    return {name: value if name in ("categorical", "drop") else unquote(value) for name, value in options.items()}
