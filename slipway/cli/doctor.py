"""`doctor`: what works here, what does not, and how to mend it."""

import json
from typing import Annotated

import typer

from slipway.cli.exits import EXIT_FAILED
from slipway.cli.options import Target, TargetOption

_MARKS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]", "skip": "[dim]-[/]"}


def doctor(
    target: TargetOption = Target.auto,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts: a list of checks on standard output")] = False,
) -> None:
    """Check versions, disk, GPU, S3, MLflow, the KFP endpoint, the cluster and what serves; exit 1 if anything fails."""
    from dataclasses import asdict

    from slipway.doctor.checkup import run_checks
    from slipway.settings import load_settings

    checks = run_checks(load_settings(), target=target.value)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False, soft_wrap=True)
        for check in checks:
            console.print(
                f"  {_MARKS[check.status]} {check.name:<10}", Text(check.detail, style="dim" if check.status == "skip" else "")
            )
            if check.remedy and check.status != "skip":
                console.print(f"      {'':<10}", Text(f"→ {check.remedy}", style="cyan"))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(EXIT_FAILED)
