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
    typer.echo(f"{name} version {record.version} at http://{host}:{port}/v2/models/{name}  (Ctrl-C ends it)")
    serve_pointer(pointer, host=host, port=port)


def predict(
    image: Annotated[Path, typer.Argument(help="JPEG, PNG or WebP file", exists=True, dir_okay=False)],
    model: ModelName = "",
    url: Annotated[str, typer.Option(help="of the server")] = "http://127.0.0.1:8080",
) -> None:
    """Ask the served model what an image shows."""
    from slipway.serving.client import predict_image
    from slipway.serving.record import find_model_name
    from slipway.settings import load_settings

    name = model or find_model_name(load_settings())
    for answer in predict_image(url, name, image):
        typer.echo(f"{answer.label}  {answer.probability:.4f}")
