"""`report`: what a run did and decided."""

import json
from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="run id; the last one by default")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="for scripts: one JSON object on standard output")] = False,
) -> None:
    """Show a run: its stages, the gate's decision, the metrics, and where the HTML report lies."""
    from slipway.settings import load_settings
    from slipway.stages.record import summarize
    from slipway.stages.state import find_run

    settings = load_settings()
    summary = summarize(find_run(settings, run))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    from rich.console import Console

    from slipway.cli.progress import print_summary

    console = Console(highlight=False)
    console.print(f"[bold]{summary['run_id']}[/]  {summary['status']}  {summary['seconds']:.1f} s")
    for stage in summary["stages"]:
        console.print(
            f"  {stage['name']:<11}{stage['seconds']:6.1f} s  {'reused' if stage['cached'] else stage['status'].lower()}"
        )
    print_summary(summary, settings)
