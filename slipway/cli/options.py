"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[section.key=value]...", help="settings to change, such as train.epochs=20")
]
Preset = Annotated[Path | None, typer.Option(help="YAML file with the settings that differ from the defaults")]
ModelName = Annotated[str, typer.Option("--model", help="name of the model; by default the one that was deployed last")]
