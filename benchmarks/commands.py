"""What a person waits for: the first run, the cached one, the command line."""

import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.figures import Figure
from benchmarks.machine import MAX_FOREIGN, Look, Watch, load_average
from benchmarks.turns import stock_environment

_SLIPWAY = Path(sys.executable).with_name("slipway")
_ROOT = Path(__file__).parents[1]
_NUM_STARTS = 9
_NUM_REPEATS = 3
_TIMEOUT_SECONDS = 600


def measure_run(watch: Watch, folder: Path) -> list[Figure]:
    """`make run` on the digits, in a home of its own; then the same again."""
    watch.await_quiet()
    before = watch.look()
    first = _time([str(_SLIPWAY), "run"], folder)
    report = _report(folder)
    repeats = []
    for _ in range(_NUM_REPEATS):
        _time([str(_SLIPWAY), "run"], folder)
        repeats.append(_cached_seconds(folder))
    conditions = describe_conditions(watch, before)
    details = {
        "test_accuracy": report["metrics"]["accuracy"],
        "stages": {stage["name"]: round(stage["seconds"], 2) for stage in report["stages"]},
    }
    return [
        limit_figure("run-digits", "`make run` on the digits, from a finished set-up", 60.0, [first], details, conditions),
        limit_figure("run-cached", "the same again: sum of the stages, all cached", 3.0, repeats, {}, conditions),
    ]


def measure_starts(watch: Watch, folder: Path) -> list[Figure]:
    """Import, help and compilation, each a whole process with its interpreter."""
    compile_script = str(_ROOT / "pipelines" / "compile.py")
    commands: list[tuple[str, str, float, list[str]]] = [
        ("import", "`import slipway`, the interpreter's own start included", 0.2, [sys.executable, "-c", "import slipway"]),
        ("help", "`slipway --help`", 0.5, [str(_SLIPWAY), "--help"]),
        ("compile", "`python pipelines/compile.py`", 1.0, [sys.executable, compile_script, "--output", str(folder)]),
    ]
    figures = []
    for name, title, wanted, command in commands:
        watch.await_quiet()
        before = watch.look()
        _time(command, folder)
        times = [_time(command, folder) for _ in range(_NUM_STARTS)]
        conditions = describe_conditions(watch, before)
        figures.append(limit_figure(name, title, wanted, times, {}, conditions))
    return figures


def _time(command: list[str], home: Path) -> float:
    start = time.perf_counter()
    done = _run(command, home)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def _run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in stock_environment().items() if not name.startswith(("SLIPWAY_", "MLFLOW_"))}
    environment["SLIPWAY_HOME"] = str(home)
    return subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )


def _report(home: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_run([str(_SLIPWAY), "report", "--json"], home).stdout)
    return report


def _cached_seconds(home: Path) -> float:
    stages = _report(home)["stages"]
    fresh = [stage["name"] for stage in stages if not stage["cached"]]
    if fresh:
        raise RuntimeError(f"the repeated run did not reuse {', '.join(fresh)}.")
    return float(sum(stage["seconds"] for stage in stages))


def describe_conditions(watch: Watch, before: Look) -> dict[str, Any]:
    """The machine since `before`."""
    peak_change, foreign = watch.compare(before, watch.look())
    return {
        "peak_change": round(peak_change, 3),
        "foreign_share": round(foreign, 3),
        "load_average": round(load_average(), 2),
        "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def limit_figure(
    name: str,
    title: str,
    wanted: float,
    samples: list[float],
    details: dict[str, Any],
    conditions: dict[str, Any],
    *,
    unit: Literal["s", "%"] = "s",
) -> Figure:
    """The median of what is to stay under `wanted`."""
    median = statistics.median(samples)
    return Figure(
        name=name,
        title=title,
        unit=unit,
        wanted=wanted,
        higher_is_better=False,
        measured=median,
        spread=statistics.quantiles(samples, n=4, method="inclusive")[2] if len(samples) > 1 else median,
        met=median < wanted,
        num_pairs=len(samples),
        is_disturbed=conditions["foreign_share"] > MAX_FOREIGN,
        samples=[round(sample, 3) for sample in samples],
        details=details,
        conditions=conditions,
    )
