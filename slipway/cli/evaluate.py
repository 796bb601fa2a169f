"""`evaluate`: judge a bundle on a prepared data set, outside a run."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.exits import EXIT_REFUSED
from slipway.cli.options import Overrides, Preset


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    dataset: Annotated[Path, typer.Argument(help="folder of a prepared data set")],
    overrides: Overrides = None,
    preset: Preset = None,
    champion: Annotated[Path | None, typer.Option(help="bundle to compare with")] = None,
    output: Annotated[Path, typer.Option(help="folder for report, figures and predictions")] = Path("evaluation"),
) -> None:
    """Measure a bundle on the test split and apply the gate; exit 0 when it passes, 3 when it is refused."""
    from slipway.evaluation.comparison import evaluate_challenger
    from slipway.overrides import load_config

    config = load_config(preset, overrides or [])
    result = evaluate_challenger(
        bundle_dir=bundle, champion_bundle_dir=champion, dataset_dir=dataset, policy=config.gate, output_dir=output
    )
    for reason in result.decision.reasons:
        typer.echo(f"{'pass' if reason.passed else 'FAIL'}  {reason.message}")
    typer.echo(f"report  {output / 'report.html'}")
    if not result.decision.passed:
        raise typer.Exit(EXIT_REFUSED)
