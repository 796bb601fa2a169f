"""Loader, training and distributed training, each beside its baseline."""

import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.datasets import FEW, LARGE, SMALL, Textures, prepare, prepare_splits
from benchmarks.figures import Figure
from benchmarks.machine import Watch
from benchmarks.pairs import Pair, play, undisturbed
from benchmarks.ratios import ratio_figure
from benchmarks.turns import Contestant, Turn, stock_environment
from slipway.config import ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.training.job import TrainingJob
from slipway.training.processes import training_environment

NUM_PAIRS = 7
ACCURACY_TOLERANCE = 0.005


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What both sides train with."""

    architecture: str
    textures: Textures
    batch_size: int
    learning_rate: float
    goal: float
    """How many times as fast as the baseline."""


RESNET18 = Recipe(architecture="resnet18", textures=FEW, batch_size=128, learning_rate=0.02, goal=3.0)
SIMPLE_CNN = Recipe(architecture="simple-cnn", textures=SMALL, batch_size=128, learning_rate=0.1, goal=4.5)


def measure_loader_32(watch: Watch, folder: Path) -> list[Figure]:
    """Images a second out of 32 px PNG files."""
    return [_measure_loader(watch, folder, SMALL, side=32, batch_size=128, repeats=40)]


def measure_loader_224(watch: Watch, folder: Path) -> list[Figure]:
    """Images a second out of 500x375 JPEG files, at 224 px."""
    return [_measure_loader(watch, folder, LARGE, side=224, batch_size=64, repeats=12)]


def _measure_loader(watch: Watch, folder: Path, textures: Textures, *, side: int, batch_size: int, repeats: int) -> Figure:
    prepare(textures)
    shape = ("--side", str(side), "--batch-size", str(batch_size))
    ours = _module("benchmarks.players.loader", "--dataset", str(textures.dataset_dir), "--repeats", str(repeats), *shape)
    plain = _module("benchmarks.baselines.loader", "--folder", str(textures.files / "train"), *shape)
    with (
        Contestant("slipway", ours, training_environment(1), folder) as player,
        Contestant("baseline", plain, stock_environment(), folder) as baseline,
    ):
        pairs = list(play(player, baseline, watch, num_pairs=NUM_PAIRS, max_pairs=2 * NUM_PAIRS))
    return ratio_figure(
        pairs,
        [pair.ratio for pair in pairs],
        name=f"loader-{side}",
        title=f"Loader, {side} px, against ImageFolder + DataLoader",
        wanted=12.0,
        details=_rates(pairs, lambda turn: turn.rate),
    )


def measure_resnet18(watch: Watch, folder: Path) -> list[Figure]:
    """Whole epochs of ResNet-18."""
    return _measure_training(watch, folder, RESNET18)


def measure_simple_cnn(watch: Watch, folder: Path) -> list[Figure]:
    """Whole epochs of SimpleCNN."""
    return _measure_training(watch, folder, SIMPLE_CNN)


def _measure_training(watch: Watch, folder: Path, recipe: Recipe) -> list[Figure]:
    textures = prepare_splits(recipe.textures)
    job = _make_job(recipe, folder / "job")
    plain = _module(
        "benchmarks.baselines.training",
        *("--folder", str(textures.splits), "--work", str(folder / "baseline"), "--architecture", recipe.architecture),
        *("--epochs", str(job.train.epochs), "--batch-size", str(recipe.batch_size)),
        *("--learning-rate", str(recipe.learning_rate)),
    )
    with (
        _start_training("slipway", job, folder, threads=None) as player,
        Contestant("baseline", plain, stock_environment(), folder) as baseline,
    ):
        pairs = list(play(player, baseline, watch, num_pairs=NUM_PAIRS))
        player.finish()
        tested = baseline.take_turn().facts
    accuracy = _test_bundle(job)
    _check_same_network(job, int(tested["parameters"]))
    speed = ratio_figure(
        pairs,
        [pair.ratio for pair in pairs],
        name=f"train-{recipe.architecture}",
        title=f"Training, {recipe.architecture}, whole epochs, against the plain loop",
        wanted=recipe.goal,
        details={
            **_rates(pairs, lambda turn: turn.rate),
            "epochs": job.train.epochs,
            "batch_size": recipe.batch_size,
            "test_accuracy": {"slipway": accuracy, "baseline": tested["accuracy"]},
        },
    )
    difference = accuracy - tested["accuracy"]
    equal = Figure(
        name=f"accuracy-{recipe.architecture}",
        title=f"Its test accuracy less the baseline's, after {job.train.epochs} epochs each",
        unit="%",
        wanted=-ACCURACY_TOLERANCE,
        higher_is_better=True,
        measured=difference,
        spread=difference,
        met=difference >= -ACCURACY_TOLERANCE,
        num_pairs=1,
        details={"slipway": accuracy, "baseline": tested["accuracy"], "test_images": 10 * textures.test_per_class},
    )
    return [speed, equal]


def measure_ddp(watch: Watch, folder: Path) -> list[Figure]:
    """Two processes of one thread beside one process of one thread, 128 samples a step each."""
    prepare(FEW)
    recipe = RESNET18
    single = _make_job(recipe, folder / "one")
    double = _make_job(replace(recipe, batch_size=2 * recipe.batch_size), folder / "two", num_processes=2)
    with ExitStack() as stack:
        two = stack.enter_context(_start_training("two", double, folder, threads=1))
        one = stack.enter_context(_start_training("one", single, folder, threads=1))
        pairs = list(play(two, one, watch, num_pairs=NUM_PAIRS))

    def train_rate(turn: Turn) -> float:
        return turn.facts["train_rate"]

    ratios = [train_rate(pair.ours) / (2 * train_rate(pair.baseline)) for pair in pairs]
    figure = ratio_figure(
        pairs,
        ratios,
        name="ddp-resnet18",
        title="DDP efficiency, ResNet-18, 2 processes of 1 thread against 1",
        wanted=0.93,
        details=_rates(pairs, train_rate),
    )
    return [replace(figure, unit="%")]


def _make_job(recipe: Recipe, folder: Path, *, num_processes: int = 1) -> TrainingJob:
    train = TrainConfig(
        epochs=NUM_PAIRS + 1,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        warmup_epochs=0,
        clip_norm=0.0,
        crop_padding=4,
        flip=True,
        num_processes=num_processes,
        max_restarts=0,
    )
    return TrainingJob(
        dataset_dir=recipe.textures.dataset_dir,
        bundle_dir=folder / "bundle",
        work_dir=folder / "work",
        model=ModelConfig(architecture=recipe.architecture),
        train=train,
    )


def _start_training(name: str, job: TrainingJob, folder: Path, *, threads: int | None) -> Contestant:
    job.work_dir.mkdir(parents=True)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(job.num_workers), "--max-restarts", "0")
    command = _module(*torchrun, "-m", "benchmarks.players.training", "--job", str(job.write()))
    environment = training_environment(job.num_workers)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return Contestant(name, command, environment, folder)


def _module(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _test_bundle(job: TrainingJob) -> float:
    """Accuracy of the exported bundle on the test split, through ONNX Runtime."""
    from slipway.evaluation.measurement import evaluate_bundle
    from slipway.export.bundle import read_bundle

    evaluation = evaluate_bundle(read_bundle(job.bundle_dir), Dataset.open(job.dataset_dir))
    return evaluation.metrics["accuracy"]


def _check_same_network(job: TrainingJob, parameters: int) -> None:
    from slipway.export.bundle import read_info

    ours = read_info(job.bundle_dir).model["parameters"]
    if ours != parameters:
        raise RuntimeError(f"the networks differ: Slipway's has {ours} parameters, the baseline's {parameters}.")


def _rates(pairs: Sequence[Pair], rate: Callable[[Turn], float]) -> dict[str, Any]:
    """Median rates of both sides over the undisturbed pairs, over all where there is none."""
    pairs = undisturbed(pairs)
    return {
        "images_per_second": {
            "slipway": round(statistics.median(rate(pair.ours) for pair in pairs), 1),
            "baseline": round(statistics.median(rate(pair.baseline) for pair in pairs), 1),
        }
    }
