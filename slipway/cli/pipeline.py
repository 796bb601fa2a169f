"""`run`, `compile` and `submit`: the pipeline as a whole."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.exits import EXIT_CANCELLED, EXIT_FAILED, EXIT_REFUSED
from slipway.cli.options import ImageTag, Overrides, Preset, Registry


def run(overrides: Overrides = None, preset: Preset = None) -> None:
    """Run the training pipeline on this machine.

    Exit status: 0 when a model was let through and serves, 3 when the gate refused it, 1 when something failed, 2 on wrong
    usage, 130 when it was cancelled.
    """
    from pipelines.compile import compile_training
    from pipelines.local import run_locally
    from slipway.cli.progress import RunProgress, print_summary
    from slipway.overrides import load_config, to_parameters
    from slipway.settings import load_settings
    from slipway.stages.record import new_run_id, summarize

    settings = load_settings()
    config = load_config(preset, overrides or [])
    run_id = new_run_id()
    ir = settings.runs_dir / run_id / "training.yaml"
    compile_training(config, ir)
    with RunProgress(run_id, config.data.source) as progress:
        try:
            record = run_locally(ir, to_parameters(config), settings, progress, run_id)
        except KeyboardInterrupt:
            progress.cancelled()
            raise typer.Exit(EXIT_CANCELLED) from None
    summary = summarize(settings.runs_dir / run_id)
    print_summary(summary, settings)
    if record.status != "SUCCEEDED":
        raise typer.Exit(EXIT_FAILED)
    if not summary["decision"]["passed"]:
        raise typer.Exit(EXIT_REFUSED)


def compile_ir(
    overrides: Overrides = None,
    preset: Preset = None,
    output: Annotated[Path, typer.Option(help="file to write")] = Path("training.yaml"),
    registry: Registry = "",
    image_tag: ImageTag = "",
) -> None:
    """Write the pipeline's IR YAML, ready for `kfp run submit` or the dashboard."""
    from pipelines.compile import compile_training
    from pipelines.images import choose_images
    from slipway.overrides import load_config

    digest = compile_training(load_config(preset, overrides or []), output, choose_images(registry, image_tag))
    typer.echo(f"{output}  sha256:{digest[:16]}")


def submit(
    overrides: Overrides = None,
    preset: Preset = None,
    endpoint: Annotated[str, typer.Option(help="KFP API; KF_PIPELINES_ENDPOINT by default")] = "",
    experiment: Annotated[str, typer.Option(help="experiment that the run belongs to")] = "slipway",
    run_name: Annotated[str, typer.Option(help="name of the run in the dashboard")] = "",
    timeout_seconds: Annotated[int, typer.Option(min=1, help="how long to follow the run")] = 24 * 3600,
    follow: Annotated[bool, typer.Option(help="wait for the run to end")] = True,
    caching: Annotated[bool, typer.Option(help="let KFP reuse tasks whose inputs have not changed")] = True,
    registry: Registry = "",
    image_tag: ImageTag = "",
) -> None:
    """Send the pipeline to a KFP endpoint, follow it, and exit 0 only when it SUCCEEDED."""
    from pipelines.images import choose_images
    from pipelines.submit import submit_from_command_line
    from slipway.overrides import load_config

    config = load_config(preset, overrides or [])
    succeeded = submit_from_command_line(
        config,
        endpoint=endpoint,
        images=choose_images(registry, image_tag),
        experiment=experiment,
        run_name=run_name,
        timeout_seconds=timeout_seconds,
        follow=follow,
        enable_caching=caching,
    )
    if not succeeded:
        raise typer.Exit(EXIT_FAILED)
