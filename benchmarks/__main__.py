"""Measure this machine: `python -m benchmarks [NAME ...]`; all of them by default. See docs/benchmarks.md."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.batch import measure_batch_32, measure_batch_224, measure_batch_photos
from benchmarks.commands import measure_run, measure_starts
from benchmarks.comparisons import measure_ddp, measure_loader_32, measure_loader_224, measure_resnet18, measure_simple_cnn
from benchmarks.figures import HEAD, RESULTS, Figure, save_figures
from benchmarks.machine import Watch, describe_machine, describe_versions, load_average, machine_name, require_pins
from benchmarks.serving.figures import SERVING
from benchmarks.storage import measure_storage_large, measure_storage_small

Benchmark = Callable[[Watch, Path], list[Figure]]

BENCHMARKS: dict[str, Benchmark] = {
    "starts": measure_starts,
    "run": measure_run,
    "loader-32": measure_loader_32,
    "loader-224": measure_loader_224,
    "simple-cnn": measure_simple_cnn,
    "resnet18": measure_resnet18,
    "ddp": measure_ddp,
    "storage-small": measure_storage_small,
    "storage-large": measure_storage_large,
    "batch-32": measure_batch_32,
    "batch-224": measure_batch_224,
    "batch-photos": measure_batch_photos,
    **SERVING,
}
GROUPS = {"serving": list(SERVING)}
NAMES = [*BENCHMARKS, *GROUPS]


def main(arguments: list[str]) -> int:
    """Exit status 0 when every figure that was measured is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Slipway beside plain baselines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; all by default")
    parser.add_argument("--output", type=Path, help="file for the results (default: one for this kind of machine)")
    parser.add_argument(
        "--patience",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="to wait in all for a quiet machine (default: %(default)g)",
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; accepted: {', '.join(NAMES)}")
    require_pins()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # Ends the programs that were started, too.
    machine = describe_machine()
    header = {
        "machine": machine,
        "versions": describe_versions(),
        "command": " ".join(["python -m benchmarks", *options.names]),
        "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "load_average_before": round(load_average(), 2),
    }
    watch = Watch(options.patience)
    figures = []
    for name in [name for given in options.names for name in GROUPS.get(given, [given])] or BENCHMARKS:
        figures += _measure(name, watch)
    peaks = {form: [round(look.peaks[form], 3) for look in watch.looks] for form in watch.looks[0].peaks}
    header["peak_tflops"] = {form: _range(values) for form, values in peaks.items()}
    path = options.output or RESULTS / f"{machine_name(machine)}.json"
    save_figures(path, header, figures)
    print("\n".join([HEAD, *(figure.to_row() for figure in figures)]))
    print(f"\n{path}")
    return 0 if all(figure.met for figure in figures) else 1


def _measure(name: str, watch: Watch) -> list[Figure]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        figures = BENCHMARKS[name](watch, Path(folder))
    for figure in figures:
        print(f"{figure.name}: {figure.to_row()}  discarded {figure.num_discarded}  {figure.details}", file=sys.stderr)
    print(f"{name} took {time.monotonic() - start:.0f} s", file=sys.stderr)
    return figures


def _range(values: list[float]) -> dict[str, Any]:
    return {"first": values[0], "last": values[-1], "lowest": min(values), "highest": max(values)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
