"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slipway.config import Config

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[section.key=value]...", help="settings to change, such as train.epochs=20")
]
Preset = Annotated[Path | None, typer.Option(help="YAML file with the settings that differ from the defaults")]
ModelName = Annotated[str, typer.Option("--model", help="name of the model; by default the one that was deployed last")]


def load_config(preset: Path | None, overrides: list[str] | None) -> "Config":
    """Defaults, then the preset, then the overrides; ConfigError where one is not accepted."""
    from slipway.config import Config
    from slipway.overrides import apply_overrides, load_preset

    config = load_preset(preset, Config()) if preset else Config()
    return apply_overrides(config, overrides or [])
