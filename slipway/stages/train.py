"""The train stage: torchrun and export, followed by MLflow."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.config import Config
from slipway.export.bundle import read_info
from slipway.launch.submitter import Submission, choose_submitter
from slipway.overrides import config_from_parameters
from slipway.provenance import hash_sources, package_versions
from slipway.settings import Settings
from slipway.stages.cache import Facts, Workplace
from slipway.stages.runner import stage_session
from slipway.stages.tracking import TRACKING_NAME, describe_training, join_candidate, track_training
from slipway.storage.files import hash_json, write_json
from slipway.training.job import ENVIRONMENT_NAME, HISTORY_NAME, TrainingJob, describe_result


def run_train(parameters: Mapping[str, Any], *, dataset: str, bundle: str, training: str, dataset_uri: str = "") -> Facts:
    """Write the bundle to `bundle`; history, environment and the MLflow run's id to `training`.

    `dataset_uri` is where the data set also lies for other machines, if it does.

    Raises:
        TrainingFailedError: the processes failed, or found no place to run; the message is the failing process's own, or the
            scheduler's.
    """
    config = config_from_parameters(parameters)
    with stage_session("train") as session:
        dataset_id = json.loads((Path(dataset) / "manifest.json").read_text())["dataset_id"]
        key = {
            "dataset_id": dataset_id,
            "model": asdict(config.model),
            "train": describe_result(config.train),
            "export": asdict(config.effective_export()),
            "code": hash_sources(),
            "packages": package_versions("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "torch", "torchvision"),
        }
        outputs = {"bundle": Path(bundle), "training": Path(training)}
        training_key = hash_json(key)[:32]

        def work(place: Workplace) -> Facts:
            job = TrainingJob(
                dataset_dir=Path(dataset),
                bundle_dir=place.outputs["bundle"],
                work_dir=place.work_dir,
                model=config.model,
                train=config.train,
                export=config.effective_export(),
            )
            submission = Submission(job=job, training_key=training_key, dataset_uri=dataset_uri, work_uri=place.work_uri)
            return _train(config, submission, place.outputs["training"], session.settings)

        return session.produce(key, outputs, work)


def _train(config: Config, submission: Submission, kept: Path, settings: Settings) -> Facts:
    job, training_key = submission.job, submission.training_key
    submitter = choose_submitter(settings, config.train)
    with ThreadPoolExecutor(max_workers=1) as pool:
        joining = pool.submit(join_candidate, settings, config, training_key)
        try:
            result = submitter.train(submission)
        except BaseException as failure:
            if joining.exception() is None:
                joining.result().finish("FAILED" if isinstance(failure, Exception) else "KILLED")
            raise
        candidate = joining.result()
    kept.mkdir()
    for name in (HISTORY_NAME, ENVIRONMENT_NAME):
        shutil.copyfile(job.work_dir / name, kept / name)
    facts = describe_training(config, read_info(job.bundle_dir).dataset_id, training_key, result)
    write_json(kept / TRACKING_NAME, asdict(facts))
    track_training(candidate, kept)
    candidate.finish("FINISHED")
    return {
        "bundle_id": result.bundle_id,
        "architecture": result.architecture,
        "metric": result.metric,
        "validation_score": result.validation_score,
        "best_epoch": result.best_epoch,
        "num_epochs": result.num_epochs,
        "samples_per_second": result.samples_per_second,
        "mlflow_run_id": candidate.run.run_id,
    }
