"""`data inspect`, `data validate` and `data prepare`: a data set on its own, outside a run."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import Overrides, Preset

app = typer.Typer(help="inspect, validate or prepare a data set", no_args_is_help=True)

Prepared = Annotated[Path, typer.Argument(help="folder of a prepared data set")]
Output = Annotated[Path, typer.Option(help="folder to write; replaced only by a finished result")]


@app.command("inspect")
def inspect(dataset: Prepared) -> None:
    """Show what a prepared data set holds, and check every shard against its hash."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from slipway.data.dataset import Dataset
    from slipway.data.manifest import LABEL_COLUMN, SPLITS

    opened = Dataset.open(dataset)
    manifest = opened.manifest
    console = Console(highlight=False)
    console.print(f"[bold]{manifest.dataset_id}[/]  {manifest.task}  from {escape(manifest.provenance.get('source', 'unknown'))}")
    for feature in manifest.features:
        console.print(f"  {feature.name}: {feature.role}, {feature.dtype} {list(feature.shape)}", markup=False)
    table = Table("class", *SPLITS, box=None)
    labels = {split: opened.read_column(split, LABEL_COLUMN) for split in SPLITS}
    for index, name in enumerate(manifest.class_names):
        table.add_row(escape(name), *(str(int((labels[split] == index).sum())) for split in SPLITS))
    table.add_row("all", *(str(manifest.num_rows[split]) for split in SPLITS), style="bold")
    console.print(table)


@app.command("validate")
def validate(overrides: Overrides = None, preset: Preset = None, output: Output = Path("validation")) -> None:
    """Check a source as ingest does, and write the report; exit 1 where the policy does not let it through."""
    import tempfile

    from slipway.data.ingest import ingest_source
    from slipway.data.validation import validate_raw
    from slipway.data.validation_report import write_validation_report
    from slipway.overrides import load_config

    config = load_config(preset, overrides or []).data
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        raw = Path(folder) / "raw"
        ingest_source(config.source, raw)
        report = validate_raw(raw, config)
    html = output / "report.html"
    write_validation_report(report, html, output / "report.md")
    report.require_accepted(html)
    typer.echo(f"{config.source} is accepted; report: {html}")


@app.command("prepare")
def prepare(overrides: Overrides = None, preset: Preset = None, output: Output = Path("dataset")) -> None:
    """Write the canonical data set of a source, as preprocess does."""
    import tempfile

    from slipway.data.ingest import ingest_source
    from slipway.data.preprocess import build_dataset
    from slipway.overrides import load_config

    config = load_config(preset, overrides or []).data
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        raw = Path(folder) / "raw"
        ingest_source(config.source, raw)
        manifest = build_dataset(raw, output, config)
    typer.echo(f"{output}  {manifest.dataset_id}  {manifest.num_rows}")
