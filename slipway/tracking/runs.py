"""Runs in MLflow: one for a pipeline run and, nested under it, one for each candidate it trained.

Invariants:
- A run is found again by its tag, so that a stage tried again joins it and never doubles it.
- What was logged is not logged again: parameters, and each metric at each step, stand once.
- A run that KFP's MLflow plugin started (MLFLOW_RUN_ID) is joined: its parent is the pipeline run, and the training
  task's run is the candidate.
"""

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slipway.errors import RegistryError
from slipway.settings import Settings
from slipway.tracking.client import open_client, sqlite_path, translated_errors

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

RUN_ID_TAG = "slipway.run_id"
TRAINING_KEY_TAG = "slipway.training_key"
_PARENT_TAG = "mlflow.parentRunId"
_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100
_REFUSED_IN_KEYS = re.compile(r"[^\w\-./ :]")

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run in MLflow."""

    run_id: str
    experiment_id: str
    artifact_uri: str


class Tracker:
    """Writes runs to the MLflow of the settings. Every method raises RegistryError where MLflow cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient = open_client(settings)

    def join_pipeline_run(self, *, experiment: str, run_id: str, tags: Mapping[str, str] | None = None) -> TrackedRun:
        """The run of the pipeline run `run_id`, made where there is none yet."""
        with translated_errors(self._settings, f"joining the run of {run_id}"):
            run = self._injected_parent()
            if run is None:
                experiment_id = self._ensure_experiment(experiment)
                run = self._find(experiment_id, RUN_ID_TAG, run_id, nested=False)
                run = run or self._client.create_run(experiment_id, run_name=run_id)
            return self._join(run, {**(tags or {}), RUN_ID_TAG: run_id})

    def join_candidate_run(
        self, parent: TrackedRun, *, training_key: str, name: str, tags: Mapping[str, str] | None = None
    ) -> TrackedRun:
        """The run of one training, under `parent`; a training that is resumed or reused keeps the run it had."""
        with translated_errors(self._settings, f"joining the run of training {training_key}"):
            run = self._find(parent.experiment_id, TRAINING_KEY_TAG, training_key, nested=True)
            run = run or self._injected_task(parent)
            run = run or self._client.create_run(parent.experiment_id, run_name=name, tags={_PARENT_TAG: parent.run_id})
            return self._join(run, {**(tags or {}), TRAINING_KEY_TAG: training_key})

    def log_params(self, run: TrackedRun, params: Mapping[str, object]) -> None:
        """Record settings; one that stands already is left as it is."""
        from mlflow.entities import Param

        with translated_errors(self._settings, "logging parameters"):
            known = self._client.get_run(run.run_id).data.params
            fresh = (Param(key, str(value)) for key, value in params.items() if key not in known)
            while batch := list(islice(fresh, _PARAMS_PER_BATCH)):
                self._client.log_batch(run.run_id, params=batch)

    def log_metrics(
        self, run: TrackedRun, metrics: Mapping[str, float], *, step: int = 0, shown_by_kfp: Collection[str] = ()
    ) -> None:
        """Record figures of one moment.

        `shown_by_kfp` names those that the stage also puts into its KFP Metrics artifact: KFP's plugin logs them to the
        task's own run, so they are left out here when `run` is that one.
        """
        if run.run_id == self._settings.mlflow_run_id:
            metrics = {key: value for key, value in metrics.items() if key not in shown_by_kfp}
        self.log_history(run, {step: metrics})

    def log_history(self, run: TrackedRun, history: Mapping[int, Mapping[str, float]]) -> None:
        """Record figures over time: for each step (an epoch) its metrics. Steps that stand already are left out."""
        with translated_errors(self._settings, "logging metrics"):
            fresh = self._fresh_metrics(run, history)
            while batch := list(islice(fresh, _METRICS_PER_BATCH)):
                self._client.log_batch(run.run_id, metrics=batch)

    def log_artifacts(self, run: TrackedRun, path: Path, folder: str = "") -> None:
        """Copy a file, or all that a directory holds, to the run's artifacts under `folder`."""
        with translated_errors(self._settings, f"storing {path}"):
            store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            store(run.run_id, str(path), folder or None)

    def set_tags(self, run: TrackedRun, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        with translated_errors(self._settings, "setting tags"):
            self._set_tags(run.run_id, tags)

    def finish(self, run: TrackedRun, status: RunStatus) -> None:
        """Close the run. A run that failed is opened again by whoever joins it."""
        with translated_errors(self._settings, "closing the run"):
            self._client.set_terminated(run.run_id, status)

    def _ensure_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            local = sqlite_path(self._settings) is not None
            root = (self._settings.home / "mlartifacts").as_uri() if local else None
            try:
                return str(self._client.create_experiment(name, artifact_location=root))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                f"MLflow's experiment {name!r} was deleted. Restore it (`mlflow experiments restore`) or choose another "
                "name with deploy.model_name=NAME."
            )
        return str(found.experiment_id)

    def _find(self, experiment_id: str, tag: str, value: str, *, nested: bool) -> "Run | None":
        runs = self._client.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time ASC"])
        return next((run for run in runs if (_PARENT_TAG in run.data.tags) == nested), None)

    def _injected_parent(self) -> "Run | None":
        if not self._settings.mlflow_run_id:
            return None
        task = self._client.get_run(self._settings.mlflow_run_id)
        parent = task.data.tags.get(_PARENT_TAG)
        return self._client.get_run(parent) if parent else task

    def _injected_task(self, parent: TrackedRun) -> "Run | None":
        injected = self._settings.mlflow_run_id
        if not injected or injected == parent.run_id:
            return None
        task = self._client.get_run(injected)
        return None if TRAINING_KEY_TAG in task.data.tags else task

    def _join(self, run: "Run", tags: Mapping[str, str]) -> TrackedRun:
        self._set_tags(run.info.run_id, {key: value for key, value in tags.items() if run.data.tags.get(key) != value})
        if run.info.status in ("FAILED", "KILLED"):
            self._client.update_run(run.info.run_id, status="RUNNING")
        return TrackedRun(
            run_id=run.info.run_id, experiment_id=run.info.experiment_id, artifact_uri=run.info.artifact_uri.rstrip("/")
        )

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _fresh_metrics(self, run: TrackedRun, history: Mapping[int, Mapping[str, float]]) -> "Iterator[Metric]":
        from mlflow.entities import Metric

        known = set(self._client.get_run(run.run_id).data.metrics)
        keys: Sequence[str] = sorted({_metric_key(key) for metrics in history.values() for key in metrics} & known)
        logged = {(key, entry.step) for key in keys for entry in self._client.get_metric_history(run.run_id, key)}
        now = int(time.time() * 1000)
        for step, metrics in history.items():
            for key, value in metrics.items():
                if (_metric_key(key), step) not in logged:
                    yield Metric(_metric_key(key), float(value), now, step)


def _metric_key(name: str) -> str:
    """`name` in the characters that MLflow accepts."""
    return _REFUSED_IN_KEYS.sub("_", name)
