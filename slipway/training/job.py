"""What a training process is told and what it answers, as files: the launcher and the processes share no memory.

A job's work folder holds `job.json`, `environment.json`, `history.json`, `last.pt`, `best.pt` and, at the end, `result.json`.
Imports no torch, so that the process which launches and waits stays light.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.config import ExportConfig, ModelConfig, TrainConfig
from slipway.storage.files import hash_json, write_json

JOB_NAME = "job.json"
RESULT_NAME = "result.json"
HISTORY_NAME = "history.json"
ENVIRONMENT_NAME = "environment.json"
FAILURE_NAME = "failure.json"
LAST_NAME = "last.pt"
BEST_NAME = "best.pt"

_SPREAD = (
    "num_processes", "num_gpus", "num_nodes", "launcher", "schedule_seconds", "node_selector", "tolerations", "shared_memory_gib",
    "max_restarts", "checkpoint_steps",
)  # fmt: skip
"""Settings that say where the work is done, not what is worked out."""


def describe_learning(train: TrainConfig) -> dict[str, Any]:
    """The settings without those that only say where the work is done: what a training may go on with from its checkpoint."""
    return {name: value for name, value in asdict(train).items() if name not in _SPREAD}


def describe_result(train: TrainConfig) -> dict[str, Any]:
    """What decides a training's result up to the order of its sums.

    To `describe_learning` that adds how many processes there are in all, since augmentation and batch normalisation are each
    process's own, and whether they compute on GPUs, which decides the precision. How they are spread over nodes is left out.
    """
    return {**describe_learning(train), "num_workers": count_workers(train), "on_gpus": train.num_gpus > 0}


def count_workers(train: TrainConfig) -> int:
    """Training processes over all nodes."""
    return train.num_nodes * (train.num_gpus or train.num_processes)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One model to train: on what, how, and where its parts go."""

    dataset_dir: Path
    """A canonical data set."""
    bundle_dir: Path
    """Becomes the bundle once training and export have ended well."""
    work_dir: Path
    """Checkpoints and history. A job started again with the same folder goes on from its last checkpoint."""
    model: ModelConfig
    train: TrainConfig
    export: ExportConfig = field(default_factory=ExportConfig)

    @property
    def num_workers(self) -> int:
        """Training processes over all nodes."""
        return count_workers(self.train)

    def fingerprint(self, dataset_id: str) -> str:
        """Hash of all that decides the weights; how the work is spread over processes is left out."""
        return hash_json({"dataset_id": dataset_id, "model": asdict(self.model), "train": describe_learning(self.train)})

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        paths = {name: str(getattr(self, name).absolute()) for name in ("dataset_dir", "bundle_dir", "work_dir")}
        return {**paths, "model": asdict(self.model), "train": asdict(self.train), "export": asdict(self.export)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrainingJob":
        """Parse what `to_json` gave; raises ConfigError for a value that is not accepted."""
        return cls(
            dataset_dir=Path(content["dataset_dir"]),
            bundle_dir=Path(content["bundle_dir"]),
            work_dir=Path(content["work_dir"]),
            model=ModelConfig(**content["model"]),
            train=TrainConfig(**content["train"]),
            export=ExportConfig(**content["export"]),
        )

    @classmethod
    def read(cls, path: Path) -> "TrainingJob":
        """Read a job file."""
        return cls.from_json(json.loads(path.read_text()))

    def write(self) -> Path:
        """Write the job file into the work folder and return its path."""
        path = self.work_dir / JOB_NAME
        write_json(path, self.to_json())
        return path


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished job leaves behind; `result.json` in its work folder."""

    bundle_dir: Path
    bundle_id: str
    architecture: str
    """As resolved: never `auto`."""
    precision: str
    """As resolved: float32 or bfloat16."""
    metric: str
    """Name of the task's primary metric."""
    best_epoch: int
    """Counted from 1; its weights are the bundle's."""
    num_epochs: int
    """Epochs trained: fewer than configured where training stopped early."""
    metrics: dict[str, float]
    """Of the best epoch: train_loss, validation_loss and `validation_<metric>`."""
    train_seconds: float
    """Time in epochs, those before an interruption included."""
    export_seconds: float
    samples_per_second: float
    """Training samples over the time of the epochs."""
    num_restarts: int
    """Times torchrun started the processes again."""
    environment: dict[str, Any]

    @property
    def validation_score(self) -> float:
        """The primary metric on the validation split at the best epoch."""
        return self.metrics[f"validation_{self.metric}"]

    def write(self, work_dir: Path) -> None:
        """Write `result.json`."""
        write_json(work_dir / RESULT_NAME, {**asdict(self), "bundle_dir": str(self.bundle_dir)})

    @classmethod
    def read(cls, work_dir: Path) -> "TrainingResult":
        """Read `result.json`."""
        content = json.loads((work_dir / RESULT_NAME).read_text())
        return cls(**{**content, "bundle_dir": Path(content["bundle_dir"])})
