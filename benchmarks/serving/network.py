"""The ResNet-18 that every server serves: trained once, exported anew in each run by the code that is measured."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.serving import WEIGHTS_NAME
from benchmarks.datasets import FEW, LARGE, Textures, prepare
from slipway.config import ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.preprocess import IMAGE_FEATURE
from slipway.settings import load_settings
from slipway.storage.files import staged_file, write_json
from slipway.training.job import BEST_NAME, TrainingJob
from slipway.training.processes import training_environment

_TEXTURES: dict[int, Textures] = {32: FEW, 224: LARGE}
_EPOCHS = {32: 3, 224: 4}
_EXPORT_SECONDS = 1800
NUM_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class Network:
    """One set of weights in the two forms that servers take."""

    bundle_dir: Path
    description: Path
    """JSON for the baselines: architecture, side, class names, mean and deviation of the pixels; the weights lie beside it."""
    images: NDArray[np.uint8]
    """To ask for: [count, side, side, 3]."""


@cache
def prepare_network(side: int) -> Network:
    """ResNet-18 for images of `side` pixels: train it where that has not been done, and export it with the present code."""
    textures = prepare(_TEXTURES[side])
    folder = load_settings().home / "bench" / f"serving-resnet18-{side}"
    job = TrainingJob(
        dataset_dir=textures.dataset_dir,
        bundle_dir=folder / "bundle",
        work_dir=folder / "work",
        model=ModelConfig(architecture="resnet18"),
        train=TrainConfig(epochs=_EPOCHS[side], batch_size=32, learning_rate=0.02, optimizer="sgd", num_processes=1, flip=True),
    )
    _train_and_export(job)
    return Network(
        bundle_dir=job.bundle_dir, description=_describe(job, folder / "network.json"), images=_spread_images(job.dataset_dir)
    )


def _train_and_export(job: TrainingJob) -> None:
    """A job that is started again goes on from its last checkpoint: trained to the end, it only exports."""
    job.work_dir.mkdir(parents=True, exist_ok=True)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "slipway.training")
    command = [sys.executable, "-m", *torchrun, "--job", str(job.write())]
    log = job.work_dir / "log"
    with log.open("wb") as stream:
        done = subprocess.run(
            command, env=training_environment(1), stdout=stream, stderr=stream, timeout=_EXPORT_SECONDS, check=False
        )
    if done.returncode:
        raise RuntimeError(f"training ended with status {done.returncode}: {log.read_text(errors='replace')[-2000:]}")


def _describe(job: TrainingJob, path: Path) -> Path:
    import torch

    from slipway.training.checkpoints import read_checkpoint

    manifest = Dataset.open(job.dataset_dir).manifest
    checkpoint = read_checkpoint(job.work_dir / BEST_NAME, job.fingerprint(manifest.dataset_id))
    with staged_file(path.with_name(WEIGHTS_NAME)) as staging:
        torch.save({name: tensor.float().contiguous() for name, tensor in checkpoint.network.items()}, staging)
    statistics = manifest.statistics_of(IMAGE_FEATURE)
    description: dict[str, Any] = {
        "architecture": "resnet18",
        "side": manifest.features[0].shape[0],
        "class_names": list(manifest.class_names),
        "mean": list(statistics.mean),
        "std": list(statistics.std),
    }
    write_json(path, description)
    return path


def _spread_images(dataset_dir: Path) -> NDArray[np.uint8]:
    """Of the test split, spread over the classes."""
    dataset = Dataset.open(dataset_dir)
    rows = dataset.spread_rows("test", NUM_IMAGES)
    pixels = dataset.read_column("test", IMAGE_FEATURE)
    return np.stack([np.asarray(pixels[row]) for row in rows])
