"""What each epoch brought, and what follows from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

History = Sequence["EpochReport"]


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One finished epoch."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's samples, while the weights were changing."""
    validation_loss: float
    validation_score: float
    """The task's primary metric on the validation split."""
    learning_rate: float
    """Of the epoch's last step."""
    seconds: float
    """Training and validation."""
    samples_per_second: float
    """Training samples over the time spent training on them."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in `history.json` and in checkpoints."""
        return asdict(self)


def find_best(history: History, *, higher_is_better: bool) -> EpochReport:
    """The epoch with the best validation score; of equal ones that with the lowest validation loss, then the earliest."""
    sign = 1.0 if higher_is_better else -1.0
    return max(history, key=lambda report: (sign * report.validation_score, -report.validation_loss, -report.epoch))


def should_stop(history: History, patience: int, *, higher_is_better: bool) -> bool:
    """Whether `patience` epochs (0: never) have passed since the best one."""
    if patience == 0 or not history:
        return False
    return history[-1].epoch - find_best(history, higher_is_better=higher_is_better).epoch >= patience
