"""`serve` and `predict`: the champion over HTTP, and a question to it."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import ModelName


def serve(
    model: ModelName = "",
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8080,
) -> None:
    """Serve what was deployed last, and follow later deployments and rollbacks. Ctrl-C ends it."""
    from slipway.serving.record import find_model_name, pointer_path, read_pointer
    from slipway.serving.server import serve_pointer
    from slipway.settings import load_settings

    settings = load_settings()
    name = model or find_model_name(settings)
    pointer = pointer_path(settings, name)
    record = read_pointer(pointer)
    typer.echo(f"{name} version {record.version}, followed as it is deployed and rolled back; Ctrl-C ends it")
    serve_pointer(pointer, host=host, port=port)


def predict(
    question: Annotated[list[str], typer.Argument(metavar="IMAGE | COLUMN=VALUE...", help="a JPEG, PNG or WebP file, or a row")],
    model: ModelName = "",
    url: Annotated[str, typer.Option(help="of the server")] = "http://127.0.0.1:8080",
) -> None:
    """Ask the served model what an image shows, or what a table's row is; columns that are left out count as missing."""
    from slipway.serving.client import predict_image, predict_row
    from slipway.serving.record import find_model_name
    from slipway.settings import load_settings

    name = model or find_model_name(load_settings())
    is_row = all("=" in word for word in question) and not Path(question[0]).exists()
    if not is_row and len(question) > 1:
        raise typer.BadParameter("one image file, or COLUMN=VALUE for each column of a row that is known")
    answers = (
        predict_row(url, name, dict(word.split("=", maxsplit=1) for word in question))
        if is_row
        else predict_image(url, name, Path(question[0]))
    )
    for answer in answers:
        typer.echo(f"{answer.label}  {answer.probability:.4f}")
