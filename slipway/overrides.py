"""From text to settings: `section.key=value` overrides, preset files and pipeline parameters."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from slipway.config import Config
from slipway.errors import ConfigError, DataError

Scalar = str | int | float | bool

_SECTIONS = ", ".join(section.name for section in fields(Config))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: where it stands, its scalar type and its default."""

    section: str
    key: str
    type: type[str] | type[int] | type[float] | type[bool]
    default: Scalar
    choices: tuple[str, ...]

    @property
    def name(self) -> str:
        """As people write it: `train.epochs`."""
        return f"{self.section}.{self.key}"

    @property
    def parameter(self) -> str:
        """As the pipeline's parameter is called: `train_epochs`."""
        return f"{self.section}_{self.key}"

    @property
    def accepted(self) -> str:
        """What a value may be, for messages."""
        if self.choices:
            return ", ".join(self.choices)
        return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[self.type]


def list_settings() -> list[Setting]:
    """All settings, in the order of the dataclasses."""
    return list(_settings_of(Config()))


def _settings_of(config: Config) -> Iterator[Setting]:
    for section in fields(config):
        values = getattr(config, section.name)
        hints = get_type_hints(type(values))
        for item in fields(values):
            yield _describe(section.name, item, hints[item.name])


def _describe(section: str, item: Field[Any], hint: Any) -> Setting:
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    default: Any = item.default
    return Setting(section=section, key=item.name, type=str if choices else hint, default=default, choices=choices)


def find_setting(name: str) -> Setting:
    """The setting called `name`; ConfigError with the nearest names where there is none."""
    known = {setting.name: setting for setting in list_settings()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not close:
        key = name.rpartition(".")[2]
        close = [other for other in known if other.rpartition(".")[2] == key]
    nearest = f" Did you mean {' or '.join(close)}?" if close else ""
    section = name.partition(".")[0]
    keys = [setting.key for setting in known.values() if setting.section == section]
    accepted = f"settings of {section}: {', '.join(keys)}" if keys else f"sections: {_SECTIONS}"
    raise ConfigError(f"there is no setting {name!r}.{nearest} Accepted {accepted}.")


def parse_value(setting: Setting, text: str) -> Scalar:
    """The value that `text` means for `setting`; ConfigError where it is not accepted."""
    text = text.strip()
    refused = ConfigError(f"{setting.name} is {text!r}; accepted: {setting.accepted}.")
    if setting.choices and text not in setting.choices:
        close = difflib.get_close_matches(text, setting.choices, n=1)
        raise ConfigError(str(refused) + (f" Did you mean {close[0]}?" if close else ""))
    if setting.type is bool:
        if text.lower() not in ("true", "false"):
            raise refused
        return text.lower() == "true"
    if setting.type is str:
        return text
    try:
        number = float(text)
    except ValueError:
        raise refused from None
    if not math.isfinite(number) or (setting.type is int and not number.is_integer()):
        raise refused
    return int(number) if setting.type is int else number


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with each `section.key=value` applied, later ones winning.

    Raises:
        ConfigError: an unknown setting (with the nearest names), a value that is not accepted, or not of that form.
    """
    changes: dict[str, Scalar] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not an override; write section.key=value, such as train.epochs=20.")
        setting = find_setting(name.strip())
        changes[setting.name] = parse_value(setting, text)
    return _replace(config, changes)


def load_preset(path: Path, config: Config) -> Config:
    """`config` with what the YAML file at `path` says: sections, and under each the settings that differ.

    Raises:
        ConfigError: the file is missing or not YAML, or names an unknown setting or a value that is not accepted.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no preset {path}. Those that come with Slipway are in pipelines/presets.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); a preset is a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    changes: dict[str, Scalar] = {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} must hold sections ({_SECTIONS}), each with settings.")
    for section, values in content.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: section {section!r} must hold settings, one a line.")
        for key, value in values.items():
            setting = find_setting(f"{section}.{key}")
            changes[setting.name] = parse_value(setting, str(value))
    return _replace(config, changes)


def load_config(preset: Path | None, overrides: Sequence[str]) -> Config:
    """The defaults, changed by the preset, changed by the overrides.

    Raises:
        ConfigError: one is not accepted, `data.source` is of no known kind, or no network is called `model.architecture`.
            Whether the source exists is not looked at: it may lie on another machine.
    """
    from slipway.data.ingest import default_model_name
    from slipway.models.registry import AUTO, check_architecture

    config = apply_overrides(load_preset(preset, Config()) if preset else Config(), overrides)
    try:
        default_model_name(config.data.source)
    except DataError as error:
        raise ConfigError(str(error)) from None
    if config.model.architecture != AUTO:
        check_architecture(config.model.architecture)
    return config


def _replace(config: Config, changes: Mapping[str, Scalar]) -> Config:
    sections: dict[str, Any] = {}
    for section in fields(config):
        own = {name.partition(".")[2]: value for name, value in changes.items() if name.startswith(f"{section.name}.")}
        if own:
            sections[section.name] = replace(getattr(config, section.name), **own)
    return replace(config, **sections)


def to_parameters(config: Config) -> dict[str, Scalar]:
    """The pipeline's arguments: `train_epochs` and so on, in the order of the dataclasses."""
    return {setting.parameter: getattr(getattr(config, setting.section), setting.key) for setting in list_settings()}


def name_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the pipeline's parameters by the settings' own names: `train.epochs` for `train_epochs`."""
    return {setting.name: parameters[setting.parameter] for setting in list_settings() if setting.parameter in parameters}


def config_from_parameters(parameters: Mapping[str, Any]) -> Config:
    """The configuration that a component's parameters describe; names that are no pipeline parameter are passed over.

    KFP turns whole numbers into floats on some paths; they are turned back. Values that are not accepted are refused
    (ConfigError) here as well, since a run may be submitted past the command line.
    """
    known = {setting.parameter: setting for setting in list_settings()}
    changes = {known[name].name: parse_value(known[name], str(value)) for name, value in parameters.items() if name in known}
    return _replace(Config(), changes)
