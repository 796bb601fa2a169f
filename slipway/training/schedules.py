"""Learning rate schedules as pure functions of where training stands, so that resuming needs no state of theirs."""

import math
from collections.abc import Sequence

from slipway.config import TrainConfig

_ONE_CYCLE_RISE = 0.3
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1e-4


def learning_rate_multiplier(config: TrainConfig, step: int, steps_per_epoch: int, scores: Sequence[float]) -> float:
    """What the peak learning rate is multiplied by in one optimizer step.

    Args:
        config: names the schedule.
        step: of the whole training, counted from 0.
        steps_per_epoch: optimizer steps in an epoch.
        scores: validation scores of the finished epochs, larger is better; only `plateau` looks at them.
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        return _one_cycle(step / total)
    warmup = min(config.warmup_epochs, config.epochs - 1) * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    epoch = step // steps_per_epoch
    match config.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _cosine((step - warmup) / (total - warmup))
        case "step":
            return config.step_factor ** (epoch // config.step_epochs)
        case "plateau":
            return config.step_factor ** count_plateaus(scores, config.step_epochs)


def count_plateaus(scores: Sequence[float], patience: int) -> int:
    """Times that `patience` epochs in a row have brought no new best score; the count of epochs starts anew after each."""
    best = -math.inf
    waited = plateaus = 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited == patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def _cosine(progress: float) -> float:
    """From 1 at the start to 0 at the end of training."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _one_cycle(progress: float) -> float:
    """Smith and Topin, "Super-Convergence" (2018), with cosine flanks: up for 30 % of training, then down to almost nothing."""
    if progress < _ONE_CYCLE_RISE:
        return _between(_ONE_CYCLE_START, 1.0, progress / _ONE_CYCLE_RISE)
    return _between(1.0, _ONE_CYCLE_END, (progress - _ONE_CYCLE_RISE) / (1.0 - _ONE_CYCLE_RISE))


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * _cosine(progress)
