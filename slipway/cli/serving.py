"""`serve` and `predict`: the champion over HTTP, and a question to it."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import ModelName

_MORE_OPTIONS = "further options of the predictor, such as -- --threads 2 --grpc-port 8081; docs/predictor.md lists them"


def serve(
    model: ModelName = "",
    host: Annotated[str, typer.Option(help="address to listen on; 127.0.0.1 by default")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="8080 by default; 0 takes a free one")] = None,
    options: Annotated[list[str] | None, typer.Argument(metavar="[-- OPTION...]", help=_MORE_OPTIONS)] = None,
) -> None:
    """Serve what was deployed last, and follow later deployments and rollbacks. Ctrl-C ends it."""
    from slipway.serving.process.server import serve_pointer
    from slipway.serving.record import find_model_name, pointer_path, read_pointer
    from slipway.settings import load_settings

    settings = load_settings()
    name = model or find_model_name(settings)
    pointer = pointer_path(settings, name)
    record = read_pointer(pointer)
    typer.echo(f"{name} version {record.version}, followed as it is deployed and rolled back; Ctrl-C ends it")
    address = [*(("--host", host) if host else ()), *(() if port is None else ("--port", str(port)))]
    serve_pointer(pointer, settings, [*address, *(options or [])])


def predict(
    question: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE | COLUMN=VALUE...]", help="a JPEG, PNG or WebP file, or a row")
    ] = None,
    model: Annotated[
        str, typer.Option(help="name of the model, by default the one deployed last; of a batch also NAME@VERSION or a bundle")
    ] = "",
    url: Annotated[str, typer.Option(help="of the server")] = "http://127.0.0.1:8080",
    source: Annotated[str, typer.Option("--input", help="a batch: folder or file, here or s3://")] = "",
    output: Annotated[str, typer.Option(help="of a batch: folder, here or s3://, that its answers are written to")] = "",
    shard_rows: Annotated[int, typer.Option(min=1, help="of a batch: samples in a file of answers")] = 10_000,
    max_unreadable: Annotated[float, typer.Option(min=0, max=1, help="of a batch: share that may be unreadable")] = 0.0,
) -> None:
    """Ask the served model what an image shows or what a row is, or predict a whole folder or file with --input and --output.

    Columns that a row leaves out count as missing. A batch needs no server; run again, it goes on where it was ended.
    """
    if source or output:
        if question or not (source and output):
            raise typer.BadParameter("--input and --output go together, without an image or a row")
        _predict_batch(source, output, model, shard_rows, max_unreadable)
    elif question:
        _ask(question, model, url)
    else:
        raise typer.BadParameter("an image, COLUMN=VALUE for each column of a row, or --input and --output")


def _predict_batch(source: str, output: str, model: str, shard_rows: int, max_unreadable: float) -> None:
    from slipway.batch.plan import PlanOptions
    from slipway.batch.work import predict_batch
    from slipway.settings import load_settings

    options = PlanOptions(shard_rows=shard_rows, max_unreadable=max_unreadable)
    summary = predict_batch(load_settings(), source, output, model, options)
    unreadable = f", {summary.num_errors} unreadable" if summary.num_errors else ""
    typer.echo(f"{summary.num_rows} samples answered{unreadable}, in {summary.num_shards} files: {summary.manifest}")


def _ask(question: list[str], model: str, url: str) -> None:
    from slipway.serving.client import predict_image, predict_row
    from slipway.serving.record import find_model_name
    from slipway.settings import load_settings

    settings = load_settings()
    name = model or find_model_name(settings)
    token = settings.serving.get("token", "").partition(",")[0].strip()
    is_row = all("=" in word for word in question) and not Path(question[0]).exists()
    if not is_row and len(question) > 1:
        raise typer.BadParameter("one image file, or COLUMN=VALUE for each column of a row that is known")
    answers = (
        predict_row(url, name, dict(word.split("=", maxsplit=1) for word in question), token=token)
        if is_row
        else predict_image(url, name, Path(question[0]), token=token)
    )
    for answer in answers:
        typer.echo(f"{answer.label}  {answer.probability:.4f}")
