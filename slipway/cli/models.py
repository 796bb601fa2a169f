"""`models` and `rollback`: what was registered, why it was let through, and the way back."""

import json
from typing import Annotated

import typer

from slipway.cli.options import ModelName


def models(
    model: Annotated[str, typer.Argument(help="name of a model; all models by default")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """List the registered versions with aliases, gate decisions and reasons."""
    from dataclasses import asdict

    from slipway.settings import load_settings
    from slipway.tracking.registry import ModelRegistry

    versions = ModelRegistry(load_settings()).list_versions(model or None)
    if as_json:
        typer.echo(json.dumps([asdict(version) for version in versions], indent=2))
        return
    if not versions:
        typer.echo("no version is registered yet: `slipway run` makes the first one")
        return
    for version in versions:
        aliases = f"  [{', '.join(version.aliases)}]" if version.aliases else ""
        typer.secho(f"{version.name} version {version.version}{aliases}  {version.gate or 'not judged'}", bold=True)
        typer.echo(
            f"  {version.created_at}  run {version.run_id or '-'}  data set {version.dataset_id}  bundle {version.bundle_id}"
        )
        for reason in version.gate_reasons:
            typer.echo(f"  - {reason}")


def rollback(
    model: ModelName = "",
    to: Annotated[str, typer.Option(help="version to go to; the one that served before by default")] = "",
) -> None:
    """Go back: the earlier version answers its golden examples first, then serves; the alias moves last."""
    from slipway.config import DeployConfig
    from slipway.deploy.promotion import SmokePolicy, roll_back
    from slipway.serving.record import find_model_name
    from slipway.settings import load_settings

    settings = load_settings()
    name = model or find_model_name(settings)
    defaults = DeployConfig()
    policy = SmokePolicy(tolerance=defaults.smoke_tolerance, timeout_seconds=defaults.timeout_seconds)
    record = roll_back(settings, name, policy, to_version=to).record
    typer.echo(f"{name} is served by version {record.version}")
