import json
from dataclasses import replace

import pytest
import torch

from slipway.config import ModelConfig
from slipway.errors import CheckpointError, NonFiniteLossError
from slipway.training.callbacks import Callback
from slipway.training.checkpoints import read_checkpoint
from slipway.training.history import find_best
from slipway.training.job import BEST_NAME, HISTORY_NAME, LAST_NAME


class CrashError(Exception):
    pass


class Interrupt(Callback):
    """Ends the process' work, as a crash would, after some batches of an epoch."""

    def __init__(self, epoch: int, optimizer_step: int) -> None:
        self.at = (epoch, optimizer_step)

    def on_step_end(self, trainer):
        if (trainer.epoch, trainer.optimizer_step) == self.at:
            raise CrashError


def weights_of(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def figures_of(trainer):
    return [(report.train_loss, report.validation_loss, report.validation_score) for report in trainer.history]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "schedule": "cosine", "flip": True, "color_jitter": 0.2},
        {"optimizer": "sgd", "schedule": "plateau", "step_epochs": 1, "label_smoothing": 0.1, "precision": "bfloat16"},
        {"optimizer": "adam", "schedule": "one-cycle", "accumulate_steps": 2, "channels_last": False},
    ],
    ids=lambda settings: settings["schedule"],
)
def test_training_interrupted_at_any_epoch_gives_the_very_weights_of_one_that_was_not(make_job, train, settings):
    whole = train(make_job("whole", **settings))
    for epoch in range(3):
        job = make_job(f"at-{epoch}", **settings)
        with pytest.raises(CrashError):
            train(job, Interrupt(epoch, 2))
        resumed = train(job)
        assert_same(weights_of(resumed), weights_of(whole))
        assert figures_of(resumed) == figures_of(whole)


def test_training_goes_on_exactly_from_a_checkpoint_inside_an_epoch(make_job, train):
    whole = train(make_job("whole", checkpoint_steps=1))
    job = make_job("interrupted", checkpoint_steps=1)
    with pytest.raises(CrashError):
        train(job, Interrupt(1, 3))
    position = read_checkpoint(job.work_dir / LAST_NAME, whole.fingerprint)
    assert (position.epoch, position.step) == (1, 3)
    resumed = train(job)
    assert_same(weights_of(resumed), weights_of(whole))
    assert figures_of(resumed) == figures_of(whole)


def test_the_best_checkpoint_holds_the_epoch_that_the_history_calls_best(make_job, train):
    job = make_job(learning_rate=0.05, epochs=6)
    trainer = train(job)
    best = find_best(trainer.history, higher_is_better=True)
    assert best.validation_score == max(report.validation_score for report in trainer.history)
    assert read_checkpoint(job.work_dir / BEST_NAME, trainer.fingerprint).epoch == best.epoch
    written = json.loads((job.work_dir / HISTORY_NAME).read_text())
    assert written["best_epoch"] == best.epoch
    assert [entry["epoch"] for entry in written["epochs"]] == [1, 2, 3, 4, 5, 6]


def test_two_runs_with_one_seed_agree_bit_for_bit_and_another_seed_differs(make_job, train):
    first, second, other = (train(make_job(name, seed=seed)) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    assert_same(weights_of(first), weights_of(second))
    assert figures_of(first) == figures_of(second)
    assert figures_of(first) != figures_of(other)


def test_a_checkpoint_of_another_configuration_is_refused(make_job, train):
    job = make_job()
    train(job)
    with pytest.raises(CheckpointError, match="another data set or configuration"):
        train(replace(job, model=ModelConfig(width=0.25)))


def blank_a_block(content):
    """What a crash of the disk leaves where a block of weights had not been written yet."""
    middle = len(content) // 2
    return content[:middle] + bytes(256) + content[middle + 256 :]


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda _: b"", blank_a_block])
def test_a_damaged_checkpoint_is_refused_by_name(make_job, train, damage):
    job = make_job()
    train(job)
    path = job.work_dir / LAST_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"{path} is damaged"):
        train(job)


def test_early_stopping_ends_after_its_patience_and_does_not_go_on_when_started_again(make_job, train):
    job = make_job(epochs=30, early_stopping_epochs=3)
    trainer = train(job, Worsen())
    best = find_best(trainer.history, higher_is_better=True)
    assert best.epoch <= 2
    assert len(trainer.history) == best.epoch + 3
    assert len(train(job).history) == len(trainer.history)


class Worsen(Callback):
    """Untrains the network after the second epoch."""

    def on_step_end(self, trainer):
        if trainer.epoch >= 2:
            with torch.no_grad():
                for parameter in trainer.network.parameters():
                    parameter.zero_()


@pytest.mark.parametrize("accumulate_steps", [1, 3])
def test_a_loss_that_is_not_finite_stops_with_epoch_and_step_and_leaves_the_checkpoint_clean(make_job, train, accumulate_steps):
    job = make_job(accumulate_steps=accumulate_steps)
    with pytest.raises(NonFiniteLossError, match=f"nan in epoch 2, step {accumulate_steps + 1} of 5"):
        train(job, Poison())
    kept = torch.load(job.work_dir / LAST_NAME, weights_only=True)
    assert kept["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in kept["network"].values())


class Poison(Callback):
    """Spoils a weight after the second epoch's first step."""

    def on_step_end(self, trainer):
        if (trainer.epoch, trainer.optimizer_step) == (1, 1):
            with torch.no_grad():
                next(trainer.network.parameters()).fill_(float("nan"))
