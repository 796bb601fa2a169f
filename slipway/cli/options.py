"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[section.key=value]...", help="settings to change, such as train.epochs=20")
]
Preset = Annotated[Path | None, typer.Option(help="YAML file with the settings that differ from the defaults")]
ModelName = Annotated[str, typer.Option("--model", help="name of the model; by default the one that was deployed last")]
Registry = Annotated[str, typer.Option(help="registry and folder of the tasks' images; the released ones' own by default")]
ImageTag = Annotated[str, typer.Option(help="which build of the images: a release or a git commit; this release by default")]


class Target(StrEnum):
    """Where models serve; see `slipway.deploy.targets`."""

    auto = "auto"
    local = "local"
    kserve = "kserve"


TargetOption = Annotated[
    Target,
    typer.Option("--target", help="where models serve: this machine, or the cluster of KUBECONFIG; auto is KServe in a pod only"),
]
