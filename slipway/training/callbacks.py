"""What happens beside the training itself: each piece is told when a moment comes and looks at the training.

Callbacks run on every process; those that write do so on the main one alone. All see the same figures.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipway.log import get_logger
from slipway.storage.files import write_json
from slipway.training.checkpoints import encode_checkpoint, write_checkpoint
from slipway.training.history import find_best, should_stop
from slipway.training.job import BEST_NAME, HISTORY_NAME, LAST_NAME

if TYPE_CHECKING:
    from slipway.training.trainer import Trainer

log = get_logger(__name__)


class Callback(Protocol):
    """The moments. A subclass answers those that it is about."""

    def on_start(self, trainer: "Trainer") -> None:  # noqa: ARG002
        """Training begins or goes on; the state has been restored."""
        return

    def on_step_end(self, trainer: "Trainer") -> None:  # noqa: ARG002
        """The optimizer has taken a step."""
        return

    def on_epoch_end(self, trainer: "Trainer") -> None:  # noqa: ARG002
        """An epoch has been trained and validated; its report is the history's last."""
        return


class CheckpointWriter(Callback):
    """Keeps `best.pt` and `last.pt`."""

    def __init__(self, work_dir: Path, every_steps: int) -> None:
        self._work_dir = work_dir
        self._every_steps = every_steps

    def on_step_end(self, trainer: "Trainer") -> None:
        """Write inside the epoch, where that is configured."""
        if self._every_steps and trainer.optimizer_step % self._every_steps == 0 and not trainer.epoch_done:
            # All processes take part: running statistics and losses are brought together.
            checkpoint = trainer.take_checkpoint()
            if trainer.workers.is_main:
                write_checkpoint(self._work_dir / LAST_NAME, encode_checkpoint(checkpoint))

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Write `best.pt` first: killed between the two, the epoch is trained again and gives the same weights."""
        checkpoint = trainer.take_checkpoint()
        if not trainer.workers.is_main:
            return
        content = encode_checkpoint(checkpoint)
        if find_best(trainer.history, higher_is_better=trainer.higher_is_better) is trainer.history[-1]:
            write_checkpoint(self._work_dir / BEST_NAME, content)
        write_checkpoint(self._work_dir / LAST_NAME, content)


class HistoryWriter(Callback):
    """Keeps `history.json`, from which the report draws its curves."""

    def __init__(self, work_dir: Path, metric: str) -> None:
        self._path = work_dir / HISTORY_NAME
        self._metric = metric

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Write all epochs so far."""
        if trainer.workers.is_main:
            best = find_best(trainer.history, higher_is_better=trainer.higher_is_better)
            epochs = [report.to_json() for report in trainer.history]
            write_json(self._path, {"metric": self._metric, "best_epoch": best.epoch, "epochs": epochs})


class EarlyStopping(Callback):
    """Ends training where the validation score no longer improves."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_start(self, trainer: "Trainer") -> None:
        """A training that had stopped does not go on."""
        self.on_epoch_end(trainer)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Ask the trainer to stop after `patience` epochs without a better one."""
        if should_stop(trainer.history, self._patience, higher_is_better=trainer.higher_is_better):
            trainer.stop()


class ProgressLog(Callback):
    """One event an epoch."""

    def on_start(self, trainer: "Trainer") -> None:
        """Say what is trained on what, and where training goes on."""
        if trainer.workers.is_main:
            log.info(
                "training",
                parameters=trainer.info.parameters,
                macs=trainer.info.macs,
                precision=trainer.precision,
                precision_reason=trainer.precision_reason,
                device=str(trainer.workers.device),
                threads=trainer.num_threads,
                processes=trainer.workers.size,
                restarts=trainer.workers.restart_count,
                finished_epochs=trainer.epoch,
            )

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """The epoch's report."""
        if trainer.workers.is_main:
            report = trainer.history[-1]
            log.info(
                "epoch",
                epoch=report.epoch,
                epochs=trainer.num_epochs,
                train_loss=round(report.train_loss, 5),
                validation_loss=round(report.validation_loss, 5),
                validation_score=round(report.validation_score, 5),
                learning_rate=float(f"{report.learning_rate:.4g}"),
                samples_per_second=round(report.samples_per_second, 1),
                seconds=round(report.seconds, 3),
            )
