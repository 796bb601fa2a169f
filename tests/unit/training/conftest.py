"""Real data sets, and training in this very process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slipway.config import DataConfig, ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset
from slipway.settings import load_process_group
from slipway.training.callbacks import Callback
from slipway.training.distributed import join_workers
from slipway.training.job import TrainingJob
from slipway.training.run import open_trainer
from slipway.training.trainer import Trainer, make_deterministic

MakeJob = Callable[..., TrainingJob]
Train = Callable[..., Trainer]


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("digits"), "sklearn://digits")


@pytest.fixture(scope="session")
def wine_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("wine"), "sklearn://wine")


def _prepare(root: Path, source: str) -> Path:
    ingest_source(source, root / "raw")
    build_dataset(root / "raw", root / "dataset", DataConfig(source=source))
    return root / "dataset"


@pytest.fixture
def make_job(digits_dir: Path, tmp_path: Path) -> MakeJob:
    """A job on the digits with a very small network."""

    def make(
        name: str = "job", *, dataset_dir: Path = digits_dir, model: ModelConfig | None = None, **train: object
    ) -> TrainingJob:
        return TrainingJob(
            dataset_dir=dataset_dir,
            bundle_dir=tmp_path / name / "bundle",
            work_dir=tmp_path / name / "work",
            model=model or ModelConfig(width=0.125, dropout=0.2),
            train=TrainConfig(**{"epochs": 3, "batch_size": 256, "crop_padding": 1, "cutout": 2, **train}),
        )

    return make


@pytest.fixture
def train() -> Train:
    """Train a job in this process, from its last checkpoint where there is one; gives the trainer at the end."""

    def run(job: TrainingJob, *others: Callback) -> Trainer:
        make_deterministic(job.train)
        with join_workers(load_process_group({}), 0) as workers:
            trainer = open_trainer(job, Dataset.open(job.dataset_dir), workers, *others)
            trainer.run()
        return trainer

    yield run
    torch.use_deterministic_algorithms(False)
