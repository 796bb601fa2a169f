"""Options as text, on the command line and in the environment, and as values."""

import argparse
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from slipway.errors import ConfigError

_Options = TypeVar("_Options")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def check_value(option: "Field[Any]", value: object) -> None:
    """Raises ConfigError where a value lies outside of what its option accepts."""
    accepted = _accepted(option.type, option.metadata)
    least, most = option.metadata["least"], option.metadata["most"]
    choices = get_args(option.type) if get_origin(option.type) is Literal else ()
    fits = value in choices if choices else True
    if isinstance(value, int | float):
        fits = math.isfinite(value) and (least is None or least <= value) and (most is None or value <= most)
    if not fits:
        raise ConfigError(f"{flag_name(option.name)} is {value!r}; accepted: {accepted}.")


def read_options(kind: type[_Options], groups: Sequence[type], arguments: Sequence[str], settings: Mapping[str, str]) -> _Options:
    """Options from a command line, then from settings (lower-case names without their prefix), then their defaults.

    Raises:
        ConfigError: one is unknown or holds what it does not accept.
    """
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ConfigError(
            f"{setting_name(unknown[0])} is no setting of the predictor; accepted: {', '.join(map(setting_name, known))}."
        )
    namespace, rest = _make_parser(groups).parse_known_args(arguments)
    if rest:
        flags = [flag_name(name) for name, option in known.items() if not option.metadata["secret"]]
        unknown_flag = rest[0].partition("=")[0]  # without its value, which may be a secret
        nearest = get_close_matches(unknown_flag, flags, n=1)
        told = f"{nearest[0]}, and the others" if nearest else "those"
        raise ConfigError(f"{unknown_flag!r} is no option of the predictor; accepted: {told} that --help lists.")
    given = vars(namespace)
    values: dict[str, Any] = {}
    for name, option in known.items():
        if given.get(name) is not None:
            values[name] = _parse(given[name], hints[name], flag_name(name), option.metadata)
        elif name in settings:
            values[name] = _parse(settings[name], hints[name], setting_name(name), option.metadata)
    return kind(**values)


def flag_name(name: str) -> str:
    """Of an option on the command line."""
    return "--" + name.replace("_", "-")


def setting_name(name: str) -> str:
    """Of an option in the environment."""
    return f"SLIPWAY_SERVING_{name.upper()}"


class _Parser(argparse.ArgumentParser):
    """Whose errors are ours: one line."""

    def error(self, message: str) -> NoReturn:
        """See `argparse`."""
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; accepted: the options that --help lists.")


def _make_parser(groups: Sequence[type]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m slipway.serving",
        description="Serve one model over HTTP (Open Inference Protocol). Every option can be set as SLIPWAY_SERVING_NAME too.",
        allow_abbrev=False,
    )
    for group in groups:
        section = parser.add_argument_group(str(group.__doc__))
        own = [one for one in fields(group) if not one.metadata["secret"]]
        for option in own:
            if option.type is bool:
                section.add_argument(
                    flag_name(option.name), action=argparse.BooleanOptionalAction, default=None, help=option.metadata["help"]
                )
            else:
                section.add_argument(flag_name(option.name), metavar=_metavar(option.type), help=_help(option))
    return parser


def show_default(option: "Field[Any]") -> str:
    """As people read it; "" for nothing."""
    default = option.default
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else "" if default in (None, ()) else str(default)


def _help(option: "Field[Any]") -> str:
    default = show_default(option)
    return f"{option.metadata['help']}{f' ({default})' if default else ''}".replace("%", "%%")


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return "N" if kind is int else "X" if kind is float else "TEXT" if kind is str else "PATH" if _is_path(kind) else "A,B"


def _parse(text: object, kind: Any, name: str, metadata: Mapping[str, Any]) -> Any:
    if not isinstance(text, str):  # a flag of the command line
        return text
    word = text.strip()
    try:
        if kind is bool:
            return _parse_bool(word)
        if _is_path(kind):
            return Path(text) if text else None
        if get_origin(kind) is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return kind(word) if kind in (int, float) else text
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; accepted: {_accepted(kind, metadata)}.") from None


def _parse_bool(word: str) -> bool:
    if word.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(word)
    return word.lower() in _TRUE


def _is_path(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and Path in get_args(kind)


def _accepted(kind: Any, metadata: Mapping[str, Any]) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if kind is bool:
        return "true, false"
    least, most = metadata["least"], metadata["most"]
    what = "a whole number" if kind is int else "a number"
    if least is not None and most is not None:
        return f"{what} from {least:g} to {most:g}"
    return f"{what}, {least:g} or more" if least is not None else what
