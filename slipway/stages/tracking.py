"""Which MLflow runs a stage writes to: the pipeline run's, and under it the candidate's."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slipway.config import Config
from slipway.data.ingest import default_model_name
from slipway.settings import Settings
from slipway.storage.files import write_json

if TYPE_CHECKING:
    from slipway.tracking.runs import TrackedRun, Tracker

Status = Literal["FINISHED", "FAILED", "KILLED"]
TRACKING_NAME = "tracking.json"
PIPELINE_RUN_NAME = "mlflow.json"


@dataclass(frozen=True, kw_only=True)
class CandidateRun:
    """An open MLflow run of one training."""

    tracker: "Tracker"
    run: "TrackedRun"
    parent: "TrackedRun"

    def finish(self, status: Status) -> None:
        """Close the run."""
        self.tracker.finish(self.run, status)

    def to_json(self) -> dict[str, Any]:
        """What a later stage needs in order to join the run."""
        return asdict(self.run)


def resolve_model_name(config: Config) -> str:
    """`deploy.model_name`, or the name that the source suggests."""
    return config.deploy.model_name or default_model_name(config.data.source)


def join_pipeline(tracker: "Tracker", settings: Settings, model_name: str) -> "TrackedRun":
    """The MLflow run of this pipeline run, noted in the run's folder; its experiment is called like the model."""
    run_id = settings.run_id or "standalone"
    run = tracker.join_pipeline_run(experiment=model_name, run_id=run_id, tags={"slipway.kind": "pipeline"})
    write_json(settings.runs_dir / run_id / PIPELINE_RUN_NAME, asdict(run))
    return run


def close_pipeline(settings: Settings, status: Status) -> None:
    """End this pipeline run's MLflow run, where a stage has opened one that is not closed yet."""
    noted = settings.runs_dir / (settings.run_id or "standalone") / PIPELINE_RUN_NAME
    if not noted.exists():
        return
    from slipway.tracking.runs import TrackedRun, Tracker

    Tracker(settings).finish(TrackedRun(**json.loads(noted.read_text())), status)
    noted.unlink()


def join_candidate(settings: Settings, config: Config, training_key: str) -> CandidateRun:
    """Open the run of one training under the pipeline's; a training that is resumed joins the run it had."""
    from slipway.tracking.runs import Tracker

    tracker = Tracker(settings)
    parent = join_pipeline(tracker, settings, resolve_model_name(config))
    run = tracker.join_candidate_run(
        parent, training_key=training_key, name=f"candidate-{training_key[:8]}", tags={"slipway.kind": "candidate"}
    )
    return CandidateRun(tracker=tracker, run=run, parent=parent)


def read_candidate(training_dir: Path) -> "TrackedRun":
    """The run that the train stage wrote to."""
    from slipway.tracking.runs import TrackedRun

    return TrackedRun(**json.loads((training_dir / TRACKING_NAME).read_text()))
