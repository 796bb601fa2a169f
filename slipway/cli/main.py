"""The `slipway` command. Command modules import what they need inside their functions, so that `--help` answers at once."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from slipway.cli import data, doctor, evaluate, models, pipeline, report, serving, train
from slipway.cli.exits import EXIT_FAILED, EXIT_USAGE
from slipway.errors import ConfigError, SlipwayError
from slipway.log import configure_logging
from slipway.settings import load_settings

app = typer.Typer(
    name="slipway",
    help="From a data set to a gated, registered, served model. Settings are given as section.key=value.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("run")(pipeline.run)
app.command("compile")(pipeline.compile_ir)
app.command("submit")(pipeline.submit)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("serve")(serving.serve)
app.command("predict")(serving.predict)
app.command("models")(models.models)
app.command("rollback")(models.rollback)
app.command("split")(models.split)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; an error meant for people is printed as one, with its exit status."""
    try:
        configure_logging(load_settings().log_format)
        app()
    except ConfigError as error:
        sys.exit(_complain(error, EXIT_USAGE))
    except SlipwayError as error:
        sys.exit(_complain(error, EXIT_FAILED))


def _complain(error: SlipwayError, status: int) -> int:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
    return status
