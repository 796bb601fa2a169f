"""What the nodes of one training and their launcher share: a folder in the object store. Imports no torch.

It holds `job.json`, `checkpoints/` (`best.pt`, `last.pt`, `history.json`), node 0's address and its word on how far it has come
while training goes on, and in the end `result/`, which is published whole: the bundle, `history.json`, `environment.json`,
`result.json`. It outlives the pods, the Job and the launcher; a training with the same key goes on from it, or finds that all is
done.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipway.config import ExportConfig, ModelConfig, TrainConfig
from slipway.errors import ObjectMissingError
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri
from slipway.training.job import ENVIRONMENT_NAME, HISTORY_NAME, JOB_NAME, RESULT_NAME, TrainingJob, TrainingResult

_BUNDLE_NAME = "bundle"
_RESULT_FILES = (HISTORY_NAME, ENVIRONMENT_NAME, RESULT_NAME)


@dataclass(frozen=True, kw_only=True)
class SharedJob:
    """What every node is told; where a node keeps its own files is its own affair."""

    dataset_uri: str
    model: ModelConfig
    train: TrainConfig
    export: ExportConfig = field(default_factory=ExportConfig)

    def place(self, folder: Path) -> TrainingJob:
        """The job as a node runs it, with its files in `folder`."""
        return TrainingJob(
            dataset_dir=folder / "dataset",
            bundle_dir=folder / "bundle",
            work_dir=folder / "work",
            model=self.model,
            train=self.train,
            export=self.export,
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SharedJob":
        """Parse what `to_json` gave; raises ConfigError for a value that is not accepted."""
        model, train = ModelConfig(**content["model"]), TrainConfig(**content["train"])
        export = ExportConfig(**content["export"])
        return cls(dataset_uri=content["dataset_uri"], model=model, train=train, export=export)


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round of torchrun, as node 0 tells the others of it."""

    position: str
    """Differs once the last checkpoint is another one."""
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """The folder at `uri`."""

    storage: ObjectStorage
    uri: str

    @property
    def checkpoints_uri(self) -> str:
        """Where the checkpoints of the main process are kept."""
        return join_uri(self.uri, "checkpoints")

    @property
    def dataset_uri(self) -> str:
        """Where the data set lies if it had to be brought here."""
        return join_uri(self.uri, "dataset")

    @property
    def _result_uri(self) -> str:
        return join_uri(self.uri, "result")

    def write_job(self, job: SharedJob) -> None:
        """Say what is to be trained."""
        self.storage.write_bytes(join_uri(self.uri, JOB_NAME), json.dumps(job.to_json(), indent=2).encode())

    def read_job(self) -> SharedJob:
        """What is to be trained."""
        return SharedJob.from_json(json.loads(self.storage.read_bytes(join_uri(self.uri, JOB_NAME))))

    def write_leader(self, meeting: str, address: str) -> None:
        """Say where node 0 of these nodes is."""
        self.storage.write_bytes(join_uri(self.uri, "leaders", meeting), address.encode())

    def read_leader(self, meeting: str) -> str:
        """Where node 0 of these nodes is; "" while it has not said so."""
        try:
            return self.storage.read_bytes(join_uri(self.uri, "leaders", meeting)).decode()
        except ObjectMissingError:
            return ""

    def write_round(self, meeting: str, told: Round) -> None:
        """Say how far node 0 of these nodes has come: sooner known than a checkpoint is copied."""
        self.storage.write_bytes(join_uri(self.uri, "rounds", meeting), json.dumps(asdict(told)).encode())

    def read_round(self, meeting: str) -> Round:
        """What node 0 of these nodes said last."""
        try:
            return Round(**json.loads(self.storage.read_bytes(join_uri(self.uri, "rounds", meeting))))
        except ObjectMissingError:
            return Round(position="", is_over=False)

    def has_result(self) -> bool:
        """Whether the training has ended well, and all that it gave is here."""
        return self.storage.is_published(self._result_uri)

    def publish_result(self, job: TrainingJob) -> None:
        """Bring a finished job's bundle, history, environment and result here; they appear together."""
        with TemporaryDirectory(dir=job.work_dir.parent, prefix="result-") as staging:
            root = Path(staging)
            shutil.copytree(job.bundle_dir, root / _BUNDLE_NAME)
            for name in _RESULT_FILES:
                shutil.copyfile(job.work_dir / name, root / name)
            self.storage.publish_folder(root, self._result_uri)

    def fetch_result(self, job: TrainingJob) -> TrainingResult:
        """Put a published result where `job` says; raises StorageError where there is none or it was altered."""
        job.work_dir.mkdir(parents=True, exist_ok=True)
        fetched = job.work_dir / "fetched"
        self.storage.fetch_folder(self._result_uri, fetched)
        for name in _RESULT_FILES:
            (fetched / name).replace(job.work_dir / name)
        if job.bundle_dir.exists():
            shutil.rmtree(job.bundle_dir)
        shutil.move(fetched / _BUNDLE_NAME, job.bundle_dir)
        shutil.rmtree(fetched)
        result = replace(TrainingResult.read(job.work_dir), bundle_dir=job.bundle_dir)
        result.write(job.work_dir)
        return result

    def remove(self) -> None:
        """Remove all of it, once its result is kept elsewhere."""
        self.storage.delete_folder(self.uri)
