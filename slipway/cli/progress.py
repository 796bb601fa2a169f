"""A run as a person sees it on a terminal: a line a stage, an epoch's figures in passing, the decision at the end."""

import sys
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

from slipway.settings import Settings
from slipway.stages.record import StageRecord

_FACTS = {
    "ingest": ("source", "num_files"),
    "preprocess": ("task", "dataset_id"),
    "train": ("architecture", "validation_score"),
    "evaluate": ("decision", "model_version"),
    "deploy": ("model_name", "version"),
}
_SHOWN_METRICS = ("accuracy", "top5_accuracy", "f1_macro", "log_loss", "ece", "latency_p50_ms", "latency_p99_ms", "size_bytes")
_HIDDEN_TASKS = ("finish",)


class RunProgress:
    """Reports to the terminal; in a log file or CI the same lines stand one after the other."""

    def __init__(self, run_id: str, source: str) -> None:
        self._console = Console(file=sys.stdout, highlight=False)  # this very stream: kfp.local redirects its own output
        self._status: Status | None = None
        self._console.print(f"[bold]slipway run[/] {run_id}  [dim]{escape(source)}[/]", soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_status()

    def cancelled(self) -> None:
        """Say so, and what comes next."""
        self._stop_status()
        self._console.print("[yellow]cancelled[/]: the same command goes on from where it was")

    def task_started(self, task: str) -> None:
        """Show that a stage is under way."""
        if task not in _HIDDEN_TASKS:
            self._status = self._console.status(f"{task} ...")
            self._status.start()

    def task_logged(self, task: str, event: Mapping[str, Any]) -> None:
        """Show an epoch's figures, and warnings."""
        if self._status is not None and event.get("event") == "epoch":
            score = event.get("validation_score")
            figures = f"loss {event.get('train_loss', 0.0):.4f}" + (f", validation {score:.4f}" if score is not None else "")
            self._status.update(f"{task}: epoch {event.get('epoch')} of {event.get('epochs')}, {figures}")
        elif event.get("level") == "warning":
            self._console.print(Text(f"  ! {task}: {event.get('event')} {event.get('error', '')}".rstrip(), style="yellow"))

    def task_ended(self, task: str, record: StageRecord | None, succeeded: bool, seconds: float) -> None:
        """Leave a line for the stage."""
        self._stop_status()
        if task in _HIDDEN_TASKS and succeeded:
            return
        mark = "[green]✓[/]" if succeeded else "[red]✗[/]"
        facts = record.facts if record else {}
        said = "  ".join(f"{name} {_short(facts[name])}" for name in _FACTS.get(task, ()) if facts.get(name) not in (None, ""))
        reused = "  [cyan]reused[/]" if record and record.cached else ""
        self._console.print(f"  {mark} {task:<11}{seconds:6.1f} s{reused}  [dim]{escape(said)}[/]", soft_wrap=True)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def print_summary(summary: Mapping[str, Any], settings: Settings) -> None:
    """The decision with its reasons, the metrics, the report and how to serve."""
    console = Console(highlight=False, soft_wrap=True)  # paths stay in one piece, to be copied
    decision = summary["decision"]
    if decision is not None:
        _print_decision(Console(highlight=False), summary)
        console.print(_metrics_table(summary["metrics"], summary["champion_metrics"]))
    if summary["error"]:
        console.print(Text(f"error: {summary['error']}", style="bold red"))
        logs = settings.runs_dir / summary["run_id"] / "logs"
        if logs.exists():  # a pod's are the cluster's to keep
            console.print(f"logs    {logs}", markup=False)
    if summary["report"]:
        console.print(f"report  {summary['report']}", markup=False)
    if summary["serving_version"]:
        console.print(
            f"serves  {summary['model_name']} version {summary['serving_version']}: slipway serve --model {summary['model_name']}"
        )


def _print_decision(console: Console, summary: Mapping[str, Any]) -> None:
    decision = summary["decision"]
    title = "let through by the gate" if decision["passed"] else "refused by the gate"
    style = "green" if decision["passed"] else "red"
    lines = Text("\n".join(f"{'✗' if reason in decision['refusals'] else '✓'} {reason}" for reason in decision["reasons"]))
    console.print(Panel(lines, title=f"version {summary['model_version']} {title}", border_style=style, title_align="left"))


def _metrics_table(metrics: Mapping[str, float], champion: Mapping[str, float] | None) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "challenger", *(["champion"] if champion else [])):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in (name for name in _SHOWN_METRICS if name in metrics):
        row = [name, f"{metrics[name]:.6g}"]
        table.add_row(*row, *([f"{champion[name]:.6g}" if name in champion else "-"] if champion else []))
    return table
