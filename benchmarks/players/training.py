"""Slipway's trainer, as `python -m slipway.training` runs it, waiting for its turn before each epoch."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.turns import Turns
from slipway.log import configure_logging
from slipway.settings import load_process_group
from slipway.training.callbacks import Callback
from slipway.training.job import TrainingJob
from slipway.training.run import run_job

if TYPE_CHECKING:
    from slipway.training.trainer import Trainer


class EpochTurns(Callback):
    """A turn is an epoch with its validation and its checkpoints. With several processes the main one speaks for all."""

    def __init__(self, turns: Turns | None) -> None:
        self._turns = turns

    def on_start(self, trainer: "Trainer") -> None:
        self._wait(trainer)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        report = trainer.history[-1]
        if self._turns is not None:
            self._turns.done(images=trainer.num_rows, train_rate=report.samples_per_second, accuracy=report.validation_score)
        if trainer.epoch < trainer.num_epochs:
            self._wait(trainer)

    def _wait(self, trainer: "Trainer") -> None:
        if self._turns is not None:
            self._turns.wait()
        trainer.workers.wait_for_all()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()
    configure_logging("json")
    group = load_process_group()
    turns = Turns(options.turns) if group.rank == 0 else None
    run_job(TrainingJob.read(options.job), group, EpochTurns(turns))


if __name__ == "__main__":
    main()
