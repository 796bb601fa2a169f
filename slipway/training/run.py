"""One training job from data set to bundle, as each of its processes runs it."""

import time
from pathlib import Path

from torch import nn

from slipway.data.dataset import Dataset
from slipway.export.onnx import TrainedModel, export_bundle
from slipway.log import get_logger
from slipway.provenance import describe_environment
from slipway.settings import ProcessGroup
from slipway.storage.files import write_json
from slipway.tasks.registry import load_task, load_training_task
from slipway.training.callbacks import Callback, CheckpointWriter, EarlyStopping, HistoryWriter, ProgressLog
from slipway.training.checkpoints import BEST_NAME, LAST_NAME, read_checkpoint
from slipway.training.distributed import join_workers
from slipway.training.history import find_best
from slipway.training.job import ENVIRONMENT_NAME, TrainingJob, TrainingResult
from slipway.training.trainer import Trainer, make_deterministic

log = get_logger(__name__)


def run_job(job: TrainingJob, group: ProcessGroup) -> None:
    """Train, from the last checkpoint where there is one, and export; the main process writes bundle and `result.json`."""
    dataset = Dataset.open(job.dataset_dir)
    task = load_task(dataset.manifest.task)
    make_deterministic(job.train)
    callbacks: list[Callback] = [
        ProgressLog(),
        EarlyStopping(job.train.early_stopping_epochs),
        HistoryWriter(job.work_dir, task.primary_metric.name),
        CheckpointWriter(job.work_dir, job.train.checkpoint_steps),
    ]
    with join_workers(group, job.train.num_gpus) as workers:
        trainer = Trainer(
            job,
            dataset=dataset,
            task=task,
            training_task=load_training_task(dataset.manifest.task),
            workers=workers,
            callbacks=callbacks,
        )
        last = job.work_dir / LAST_NAME
        fingerprint = job.fingerprint(dataset.manifest.dataset_id)
        if last.exists():
            trainer.restore(read_checkpoint(last, fingerprint))
        trainer.run()
    if group.rank == 0:
        _finish(job, dataset, trainer, fingerprint)


def _finish(job: TrainingJob, dataset: Dataset, trainer: Trainer, fingerprint: str) -> None:
    start = time.monotonic()
    task = load_task(dataset.manifest.task)
    training_task = load_training_task(dataset.manifest.task)
    best = find_best(trainer.history, higher_is_better=trainer.higher_is_better)
    metric = task.primary_metric.name
    metrics = {
        "train_loss": best.train_loss,
        "validation_loss": best.validation_loss,
        f"validation_{metric}": best.validation_score,
    }
    architecture = task.default_architecture if job.model.architecture == "auto" else job.model.architecture
    trained = TrainedModel(
        network=_load_best(job.work_dir, trainer.network, fingerprint),
        architecture=architecture,
        metrics=metrics,
        info=trainer.info,
    )
    info = export_bundle(job.bundle_dir, dataset=dataset, task=task, training_task=training_task, trained=trained)
    environment = describe_environment().to_json()
    write_json(job.work_dir / ENVIRONMENT_NAME, environment)
    train_seconds = sum(report.seconds for report in trainer.history)
    result = TrainingResult(
        bundle_dir=job.bundle_dir,
        bundle_id=info.bundle_id,
        architecture=architecture,
        precision=trainer.precision,
        metric=metric,
        best_epoch=best.epoch,
        num_epochs=len(trainer.history),
        metrics=metrics,
        train_seconds=train_seconds,
        export_seconds=time.monotonic() - start,
        samples_per_second=len(trainer.history) * trainer.num_rows / train_seconds,
        num_restarts=trainer.workers.restart_count,
        environment=environment,
    )
    result.write(job.work_dir)
    log.info("exported", bundle_id=info.bundle_id, best_epoch=best.epoch, seconds=round(result.export_seconds, 3), **metrics)


def _load_best(work_dir: Path, network: nn.Module, fingerprint: str) -> nn.Module:
    network.load_state_dict(read_checkpoint(work_dir / BEST_NAME, fingerprint).network)
    return network
