"""One training job from data set to bundle, as each of its processes runs it."""

import time

from slipway.data.dataset import Dataset
from slipway.export.onnx import TrainedModel, export_bundle
from slipway.log import get_logger
from slipway.provenance import describe_environment
from slipway.settings import ProcessGroup
from slipway.storage.files import write_json
from slipway.tasks.registry import load_task, load_training_task
from slipway.training.callbacks import Callback, CheckpointWriter, EarlyStopping, HistoryWriter, ProgressLog
from slipway.training.checkpoints import decode_checkpoint, read_checkpoint
from slipway.training.distributed import Workers, join_workers
from slipway.training.history import find_best
from slipway.training.job import BEST_NAME, ENVIRONMENT_NAME, LAST_NAME, TrainingJob, TrainingResult
from slipway.training.trainer import Trainer, make_deterministic

log = get_logger(__name__)


def run_job(job: TrainingJob, group: ProcessGroup, *others: Callback) -> None:
    """Train, from the last checkpoint where there is one, and export; the main process writes bundle and `result.json`.

    `others` are told of the same moments as the trainer's own callbacks, after them.
    """
    dataset = Dataset.open(job.dataset_dir)
    make_deterministic(job.train)
    with join_workers(group, job.train.num_gpus) as workers:
        trainer = open_trainer(job, dataset, workers, *others)
        trainer.run()
    if group.rank == 0:
        _finish(job, dataset, trainer)


def open_trainer(job: TrainingJob, dataset: Dataset, workers: Workers, *others: Callback) -> Trainer:
    """The job's trainer with its callbacks and `others`, where the last checkpoint left it.

    Raises:
        CheckpointError: the work folder holds a checkpoint that is damaged or of another job.
    """
    task = load_task(dataset.manifest.task)
    trainer = Trainer(
        job,
        dataset=dataset,
        task=task,
        training_task=load_training_task(dataset.manifest.task),
        workers=workers,
        callbacks=[
            ProgressLog(),
            EarlyStopping(job.train.early_stopping_epochs),
            HistoryWriter(job.work_dir, task.primary_metric.name),
            CheckpointWriter(job.work_dir, job.train.checkpoint_steps),
            *others,
        ],
    )
    last = job.work_dir / LAST_NAME
    # The main process's for all: on other machines the file is missing, or older.
    stored = workers.share(last.read_bytes() if workers.is_main and last.exists() else None)
    if stored is not None:
        trainer.restore(decode_checkpoint(stored, trainer.fingerprint, path=last))
    return trainer


def _finish(job: TrainingJob, dataset: Dataset, trainer: Trainer) -> None:
    start = time.monotonic()
    environment = describe_environment().to_json()
    write_json(job.work_dir / ENVIRONMENT_NAME, environment)
    task = load_task(dataset.manifest.task)
    best = find_best(trainer.history, higher_is_better=trainer.higher_is_better)
    metric = task.primary_metric.name
    trainer.network.load_state_dict(read_checkpoint(job.work_dir / BEST_NAME, trainer.fingerprint).network)
    trained = TrainedModel(
        network=trainer.network,
        architecture=task.default_architecture if job.model.architecture == "auto" else job.model.architecture,
        metrics={
            "train_loss": best.train_loss,
            "validation_loss": best.validation_loss,
            f"validation_{metric}": best.validation_score,
        },
        info=trainer.info,
    )
    training_task = load_training_task(dataset.manifest.task)
    info = export_bundle(
        job.bundle_dir, dataset=dataset, task=task, training_task=training_task, trained=trained, config=job.export
    )
    train_seconds = sum(report.seconds for report in trainer.history)
    result = TrainingResult(
        bundle_dir=job.bundle_dir,
        bundle_id=info.bundle_id,
        architecture=trained.architecture,
        precision=trainer.precision,
        metric=metric,
        best_epoch=best.epoch,
        num_epochs=len(trainer.history),
        metrics=trained.metrics,
        train_seconds=train_seconds,
        export_seconds=time.monotonic() - start,
        samples_per_second=len(trainer.history) * trainer.num_rows / train_seconds,
        num_restarts=trainer.workers.restart_count,
        environment=environment,
    )
    result.write(job.work_dir)
    log.info(
        "exported", bundle_id=info.bundle_id, best_epoch=best.epoch, seconds=round(result.export_seconds, 3), **trained.metrics
    )
