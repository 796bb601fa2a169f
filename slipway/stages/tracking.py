"""Which MLflow runs a stage writes to: the pipeline run's, and under it the candidate's.

Each run that is open is noted in the pipeline run's folder, so that whoever ends the run, or finds it killed, can close it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from slipway.config import Config
from slipway.data.ingest import default_model_name
from slipway.overrides import name_settings
from slipway.settings import Settings
from slipway.stages.record import is_over, read_run_if_any
from slipway.stages.state import share_file
from slipway.storage.files import write_json
from slipway.tracking.runs import TrackedRun, Tracker
from slipway.training.job import HISTORY_NAME, TrainingResult

TrackingStatus = Literal["FINISHED", "FAILED", "KILLED"]
TRACKING_NAME = "tracking.json"
_NOTES_NAME = "mlflow"


@dataclass(frozen=True, kw_only=True)
class CandidateRun:
    """An open MLflow run of one training."""

    settings: Settings
    tracker: Tracker
    run: TrackedRun
    parent: TrackedRun
    note: Path

    def finish(self, status: TrackingStatus) -> None:
        """Close the run."""
        self.tracker.finish(self.run, status)
        _drop(self.settings, self.note)


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What MLflow is told of a training, beside its history: `tracking.json` in the train stage's output."""

    training_key: str
    params: dict[str, Any]
    metrics: dict[str, float]


def resolve_model_name(config: Config) -> str:
    """`deploy.model_name`, or the name that the source suggests."""
    return config.deploy.model_name or default_model_name(config.data.source)


def join_pipeline(tracker: Tracker, settings: Settings, model_name: str) -> TrackedRun:
    """The MLflow run of this pipeline run; its experiment is called like the model."""
    _close_abandoned(tracker, settings)
    run_id = settings.run_dir.name
    run = tracker.join_pipeline_run(experiment=model_name, run_id=run_id, tags={"slipway.kind": "pipeline"})
    _note(settings, run)
    record = read_run_if_any(settings.runs_dir / run_id)
    if record is not None:
        tracker.log_params(run, name_settings(record.parameters))
    return run


def close_runs(settings: Settings, status: TrackingStatus) -> None:
    """End the MLflow runs of this pipeline run that a stage has opened and nobody closed."""
    notes = list(_read_notes(_notes_dir(settings)))
    if not notes:
        return
    tracker = Tracker(settings)
    for note, run in notes:
        tracker.finish(run, status)
        _drop(settings, note)


def join_candidate(settings: Settings, config: Config, training_key: str) -> CandidateRun:
    """Open the run of one training under the pipeline's; a training that is resumed joins the run it had."""
    tracker = Tracker(settings)
    parent = join_pipeline(tracker, settings, resolve_model_name(config))
    run = tracker.join_candidate_run(
        parent, training_key=training_key, name=f"candidate-{training_key[:8]}", tags={"slipway.kind": "candidate"}
    )
    return CandidateRun(settings=settings, tracker=tracker, run=run, parent=parent, note=_note(settings, run))


def describe_training(config: Config, dataset_id: str, training_key: str, result: TrainingResult) -> TrainingFacts:
    """What MLflow is told of a training: what decides it, so that it holds for every run that reuses it."""
    sections = {"model": asdict(config.model), "train": asdict(config.train)}
    settings = {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
    return TrainingFacts(
        training_key=training_key,
        params=settings | {"dataset_id": dataset_id, "architecture": result.architecture, "precision": result.precision},
        metrics={f"best_{name}": value for name, value in result.metrics.items()},
    )


def track_training(candidate: CandidateRun, training_dir: Path) -> None:
    """Log the train stage's output; what stands in the run already is left as it is."""
    tracker, run, facts = candidate.tracker, candidate.run, read_training(training_dir)
    tracker.log_params(run, facts.params)
    history = json.loads((training_dir / HISTORY_NAME).read_text())["epochs"]
    tracker.log_history(run, {entry["epoch"]: _figures(entry) for entry in history})
    tracker.log_metrics(run, facts.metrics)
    tracker.log_artifacts(run, training_dir, "training")


def read_training(training_dir: Path) -> TrainingFacts:
    """Read `tracking.json`."""
    return TrainingFacts(**json.loads((training_dir / TRACKING_NAME).read_text()))


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in entry.items() if name != "epoch" and isinstance(value, int | float)}


def _close_abandoned(tracker: Tracker, settings: Settings) -> None:
    for folder in settings.runs_dir.glob(f"*/{_NOTES_NAME}"):
        if is_over(folder.parent):
            for note, run in _read_notes(folder):
                tracker.finish(run, "KILLED")
                note.unlink(missing_ok=True)


def _notes_dir(settings: Settings) -> Path:
    return settings.run_dir / _NOTES_NAME


def _note(settings: Settings, run: TrackedRun) -> Path:
    note = _notes_dir(settings) / f"{run.run_id}.json"
    write_json(note, asdict(run))
    share_file(settings, note)
    return note


def _drop(settings: Settings, note: Path) -> None:
    note.unlink(missing_ok=True)
    share_file(settings, note)


def _read_notes(folder: Path) -> Iterator[tuple[Path, TrackedRun]]:
    for note in sorted(folder.glob("*.json")):
        yield note, TrackedRun(**json.loads(note.read_text()))
