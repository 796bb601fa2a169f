"""`models`, `rollback` and `split`: what was registered and what serves, the way back, and a share for another version."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.options import ModelName, Target, TargetOption

if TYPE_CHECKING:
    from slipway.deploy.target import DeployTarget
    from slipway.serving.record import ServingRecord
    from slipway.tracking.registry import ModelVersion


def models(
    model: Annotated[str, typer.Argument(help="name of a model; all models by default")] = "",
    target: TargetOption = Target.auto,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """List the registered versions with aliases, gate decisions and reasons, and say which of them serve."""
    from dataclasses import asdict

    from slipway.deploy.targets import open_target
    from slipway.settings import load_settings
    from slipway.tracking.registry import ModelRegistry

    settings = load_settings()
    versions = ModelRegistry(settings).list_versions(model or None)
    serving = {record.model_name: record for record in open_target(settings, target.value).list_serving()}
    if as_json:
        listed = [{**asdict(version), "serves": _serves(version, serving)} for version in versions]
        typer.echo(json.dumps(listed, indent=2))
        return
    if not versions:
        typer.echo("no version is registered yet: `slipway run` makes the first one")
    for version in versions:
        _show(version, serving)
    for name, record in serving.items():
        if model in ("", name) and not any(_serves(version, serving) for version in versions if version.name == name):
            typer.echo(f"{name} is served by version {record.version} (bundle {record.bundle_id}), which is not registered here")


def _show(version: "ModelVersion", serving: "dict[str, ServingRecord]") -> None:
    aliases = f"  [{', '.join(version.aliases)}]" if version.aliases else ""
    serves = f"  serves since {serving[version.name].promoted_at}" if _serves(version, serving) else ""
    typer.secho(f"{version.name} version {version.version}{aliases}  {version.gate or 'not judged'}{serves}", bold=True)
    typer.echo(f"  {version.created_at}  run {version.run_id or '-'}  data set {version.dataset_id}  bundle {version.bundle_id}")
    for reason in version.gate_reasons:
        typer.echo(f"  - {reason}")


def _serves(version: "ModelVersion", serving: "dict[str, ServingRecord]") -> bool:
    record = serving.get(version.name)
    return record is not None and (record.version, record.bundle_id) == (version.version, version.bundle_id)


def rollback(
    model: ModelName = "",
    to: Annotated[str, typer.Option(help="version to go to; the one that served before by default")] = "",
    target: TargetOption = Target.auto,
) -> None:
    """Go back: the earlier version answers its golden examples first, then serves; the alias moves last."""
    from slipway.config import DeployConfig
    from slipway.deploy.policy import SmokePolicy
    from slipway.deploy.promotion import roll_back
    from slipway.deploy.targets import open_target
    from slipway.settings import load_settings

    settings = load_settings()
    opened = open_target(settings, target.value)
    name = model or _find_model_name(opened)
    record = roll_back(settings, name, SmokePolicy.of(DeployConfig()), to_version=to, target=opened).record
    typer.echo(f"{name} is served by version {record.version}")


def split(
    model: Annotated[str, typer.Argument(help="name of the model")],
    to: Annotated[str, typer.Option(help="version that gets a share")] = "",
    weight: Annotated[int, typer.Option(min=1, max=99, help="its share of the requests, in percent")] = 10,
    end: Annotated[bool, typer.Option("--end", help="take the split down; the champion gets everything")] = False,
    graph_namespace: Annotated[
        str, typer.Option(help="where the splitter runs; the serving namespace's name with -ab by default")
    ] = "",
) -> None:
    """A/B on KServe: let another version answer a share of the requests that go through an InferenceGraph."""
    from slipway.cluster.client import open_cluster
    from slipway.config import DeployConfig
    from slipway.deploy.policy import SmokePolicy
    from slipway.deploy.split import end_split, split_traffic
    from slipway.settings import load_settings

    if end == bool(to):
        raise typer.BadParameter("either --to VERSION or --end")
    settings = load_settings()
    cluster, policy = open_cluster(settings), SmokePolicy.of(DeployConfig())
    if end:
        found = end_split(settings, cluster, model, policy, namespace=graph_namespace)
        typer.echo(f"{model} is not split any more" if found else f"{model} was not split")
        return
    made = split_traffic(settings, cluster, model, policy, version=to, weight=weight, namespace=graph_namespace)
    typer.echo(
        f"{made.url} gives {100 - weight} % to version {made.champion.version} and {weight} % to version {made.second.version}; "
        f"{model}'s own address stays with version {made.champion.version}"
    )


def _find_model_name(target: "DeployTarget") -> str:
    """The model that was promoted last."""
    from slipway.errors import DeployError

    records = target.list_serving()
    if not records:
        raise DeployError("no model serves yet. Deploy one with `slipway run`, or name where with --target.")
    return max(records, key=lambda record: record.promoted_at).model_name
