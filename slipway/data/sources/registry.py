"""The sources by URI scheme. A source's module is imported when it is asked for."""

from difflib import get_close_matches
from importlib import import_module
from typing import cast
from urllib.parse import unquote

from slipway.data.sources.base import Source, SourceUri
from slipway.errors import DataError, StorageError
from slipway.storage.uri import parse_s3

_SCHEMES = ("sklearn", "idx", "cifar10", "folder", "csv")
_WITHOUT_FILES = ("sklearn",)
_STORE_SUFFIX = "+s3"


def load_source(scheme: str) -> Source:
    """The module that reads `scheme`."""
    return cast(Source, import_module(f"slipway.data.sources.{scheme}"))


def parse_source(text: str) -> tuple[SourceUri, Source]:
    """Parse a source's URI and find who reads it.

    Options follow `?`, percent-encoded where they hold `&`, `%` or `,`; a source without options takes `?` as part of its path.

    Raises:
        DataError: it is no URI, or its scheme or an option is not known; the message names the nearest valid one.
    """
    given, separator, rest = text.partition("://")
    scheme = given.removesuffix(_STORE_SUFFIX)
    is_remote = given.endswith(_STORE_SUFFIX)
    if not separator or scheme not in _SCHEMES or (is_remote and scheme in _WITHOUT_FILES):
        raise DataError(f"data.source is {text!r}: no such kind of source.{_find_nearest(given)} Accepted: {_list_forms()}.")
    source = load_source(scheme)
    location, query = rest, ""
    if source.OPTIONS:
        location, _, query = rest.partition("?")
    if not location:
        raise DataError(f"data.source is {text!r}: nothing follows {given}://. Accepted: {source.FORM}.")
    if is_remote:
        _check_location(text, location)
    options = _parse_options(text, query, source)
    return SourceUri(text=text, scheme=scheme, location=location, options=options, is_remote=is_remote), source


def _find_nearest(given: str) -> str:
    if given == "s3":
        return " Say how to read it: folder+s3://BUCKET/FOLDER or csv+s3://BUCKET/FILE?target=COLUMN."
    known = [*_SCHEMES, *(f"{name}{_STORE_SUFFIX}" for name in _SCHEMES if name not in _WITHOUT_FILES)]
    nearest = get_close_matches(given.lower(), known, n=1, cutoff=0.4)
    return f" Did you mean {nearest[0]}://?" if nearest else ""


def _list_forms() -> str:
    forms = ", ".join(load_source(name).FORM for name in _SCHEMES)
    return f"{forms}; in an object store folder+s3://BUCKET/FOLDER, and so for all but sklearn"


def _check_location(text: str, location: str) -> None:
    try:
        parse_s3(f"s3://{location}")
    except StorageError as error:
        raise DataError(f"data.source is {text!r}: {error}") from None


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
