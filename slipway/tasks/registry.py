"""The tasks by name. Both halves are imported only when they are asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

from slipway.errors import ConfigError
from slipway.tasks.task import Task

if TYPE_CHECKING:
    from slipway.tasks.training_task import TrainingTask

_PACKAGES = {
    "image-classification": "slipway.tasks.image_classification",
    "tabular-classification": "slipway.tasks.tabular_classification",
}


def task_names() -> list[str]:
    """Names that `load_task` accepts."""
    return sorted(_PACKAGES)


def load_task(name: str) -> Task:
    """The torch-free half of the task called `name`; its package holds it as `task.TASK`."""
    task: Task = import_module(f"{_package(name)}.task").TASK
    return task


def load_training_task(name: str) -> "TrainingTask":
    """The training half of the task called `name`; its package holds it as `training.TRAINING_TASK`."""
    task: TrainingTask = import_module(f"{_package(name)}.training").TRAINING_TASK
    return task


def _package(name: str) -> str:
    if name not in _PACKAGES:
        raise ConfigError(f"task {name!r} is not known; accepted: {', '.join(task_names())}.")
    return _PACKAGES[name]
