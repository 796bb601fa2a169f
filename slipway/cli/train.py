"""`train`: one training on a prepared data set, outside a run."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import Overrides, Preset


def train(
    dataset: Annotated[Path, typer.Argument(help="folder of a prepared data set")],
    overrides: Overrides = None,
    preset: Preset = None,
    output: Annotated[Path, typer.Option(help="folder for the bundle")] = Path("bundle"),
    work: Annotated[Path, typer.Option(help="folder for checkpoints and history; training goes on from what it holds")] = Path(
        "training"
    ),
) -> None:
    """Train with torchrun and export the bundle. Interrupted, it goes on from its last checkpoint when called again."""
    from slipway.launch.local import launch_training
    from slipway.overrides import load_config
    from slipway.training.job import TrainingJob

    config = load_config(preset, overrides or [])
    job = TrainingJob(
        dataset_dir=dataset,
        bundle_dir=output,
        work_dir=work,
        model=config.model,
        train=config.train,
        export=config.effective_export(),
    )
    result = launch_training(job)
    typer.echo(f"{output}  {result.bundle_id}  validation {result.metric} {result.validation_score:.4f}")
