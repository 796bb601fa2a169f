"""What happened in a run, on disk: one record a stage, one for the run. `slipway report` reads nothing else."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from slipway.errors import ConfigError
from slipway.storage.files import write_json
from slipway.storage.locks import is_locked

RunStatus = Literal["RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
STAGES = ("ingest", "preprocess", "train", "evaluate", "deploy")
REPORTS = ("report.html", "validation/report.html")
"""What a person reads of a run, below its folder: the evaluation, and what validation found."""
_GONE = "the run's process was killed; the same command goes on from where it was"


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage of one run."""

    name: str
    status: RunStatus
    started_at: str
    seconds: float
    """Wall-clock time of the stage's process where the run was followed from outside, else of its work."""
    cached: bool
    """True where nothing had to be done."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the stage says of its result."""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of a pipeline."""

    run_id: str
    pipeline: str
    status: RunStatus
    started_at: str
    parameters: dict[str, Any]
    ir_hash: str = ""
    """Of the compiled pipeline; see `Settings.ir_hash`."""
    seconds: float = 0.0
    error: str = ""
    model_name: str | None = None
    """What the run's model is called, known when the run ends."""
    serving_version: str | None = None
    """The version that serves when the run ends, whichever run it came from."""


def utc_now() -> str:
    """The time now, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def seconds_since(moment: str) -> float:
    """Seconds from a time that `utc_now` gave until now."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def new_run_id() -> str:
    """An id that sorts by time; unique among runs that start a millisecond apart."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{time.time_ns() // 1_000_000 % 1000:03d}"


def write_stage(run_dir: Path, record: StageRecord) -> Path:
    """Write or replace a stage's record; returns its file."""
    path = run_dir / "stages" / f"{record.name}.json"
    write_json(path, asdict(record))
    return path


def read_stage(run_dir: Path, name: str) -> StageRecord | None:
    """A stage's record, or None where the stage has not begun."""
    path = run_dir / "stages" / f"{name}.json"
    return StageRecord(**json.loads(path.read_text())) if path.exists() else None


def read_stages(run_dir: Path) -> list[StageRecord]:
    """The records of the stages that have begun, in the pipeline's order."""
    records = (read_stage(run_dir, name) for name in STAGES)
    return [record for record in records if record is not None]


def write_run(run_dir: Path, record: RunRecord) -> Path:
    """Write or replace the run's record; returns its file."""
    path = run_dir / "run.json"
    write_json(path, asdict(record))
    return path


def read_run(run_dir: Path) -> RunRecord:
    """The run's record; ConfigError where there is none."""
    path = run_dir / "run.json"
    if not path.exists():
        known = ", ".join(sorted((entry.name for entry in run_dir.parent.glob("*/")), reverse=True)[:5]) or "none"
        raise ConfigError(f"there is no run {run_dir.name!r} under {run_dir.parent}. Latest runs: {known}.")
    return RunRecord(**json.loads(path.read_text()))


def read_run_if_any(run_dir: Path) -> RunRecord | None:
    """The run's record, or None where nothing outside the stages follows the run (on a cluster)."""
    return read_run(run_dir) if (run_dir / "run.json").exists() else None


def begin_record(run_dir: Path, parameters: Mapping[str, Any], ir_hash: str = "") -> RunRecord:
    """The record of a run that nothing but its stages has written of (on a cluster), as far as they tell."""
    stages = read_stages(run_dir)
    started_at = stages[0].started_at if stages else utc_now()
    return RunRecord(
        run_id=run_dir.name,
        pipeline="training",
        status="RUNNING",
        started_at=started_at,
        parameters=dict(parameters),
        ir_hash=ir_hash,
    )


def liveness_lock(run_dir: Path) -> Path:
    """The lock file that whoever follows a run holds to its end, however it ends."""
    return run_dir / "alive.lock"


def is_over(run_dir: Path) -> bool:
    """Whether nobody follows the run any more; False where nothing outside the stages ever did."""
    return (run_dir / "run.json").exists() and not is_locked(liveness_lock(run_dir))


def latest_run(runs_dir: Path) -> str:
    """The id of the run that started last; ConfigError where there is none."""
    ids = sorted(path.parent.name for path in runs_dir.glob("*/run.json"))
    if not ids:
        raise ConfigError(f"there is no run under {runs_dir} yet. Start one with `slipway run`.")
    return ids[-1]


def summarize(run_dir: Path) -> dict[str, Any]:
    """The run in the form that `slipway report --json` prints; figures that do not exist are null."""
    run, stages = _read_settled(run_dir)
    evaluation = stages["evaluate"].facts if "evaluate" in stages else {}
    decided = "passed" in evaluation
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "status": run.status,
        "started_at": run.started_at,
        "seconds": run.seconds,
        "error": run.error or next((record.error for record in stages.values() if record.error), ""),
        "dataset_id": _fact(stages, "preprocess", "dataset_id"),
        "bundle_id": _fact(stages, "train", "bundle_id"),
        "decision": {name: evaluation[name] for name in ("passed", "reasons", "refusals")} if decided else None,
        "metrics": evaluation.get("metrics", {}),
        "champion_metrics": evaluation.get("champion_metrics"),
        "model_name": evaluation.get("model_name") or run.model_name,
        "model_version": evaluation.get("model_version"),
        "serving_version": run.serving_version,
        "report": _find_report(run_dir, evaluation),
        "stages": [
            {"name": record.name, "status": record.status, "seconds": round(record.seconds, 3), "cached": record.cached}
            for record in stages.values()
        ],
    }


def _read_settled(run_dir: Path) -> tuple[RunRecord, dict[str, StageRecord]]:
    """The records as they stand, those of a killed run ended."""
    stages = read_stages(run_dir)
    run = read_run_if_any(run_dir) or (begin_record(run_dir, {}) if stages else read_run(run_dir))
    if run.status == "RUNNING" and is_over(run_dir):
        run = replace(run, status="FAILED", error=_GONE)
        stages = [replace(stage, status="FAILED", error=_GONE) if stage.status == "RUNNING" else stage for stage in stages]
    return run, {stage.name: stage for stage in stages}


def _find_report(run_dir: Path, evaluation: Mapping[str, Any]) -> str | None:
    """Where the evaluation's report lies on this machine; the stage may have written it in a pod."""
    named = evaluation.get("report")
    here = run_dir / REPORTS[0]
    return str(here) if named and here.exists() else named


def _fact(stages: Mapping[str, StageRecord], stage: str, name: str) -> Any:
    return stages[stage].facts.get(name) if stage in stages else None
