"""The exit handler's work: whatever happened, the run has a summary and nothing is left open."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from slipway.deploy.targets import find_serving
from slipway.errors import ConfigError, DataError, SlipwayError
from slipway.log import configure_logging, get_logger
from slipway.overrides import config_from_parameters
from slipway.serving.record import ServingRecord
from slipway.settings import Settings, load_settings
from slipway.stages.record import begin_record, read_run_if_any, read_stages, seconds_since, write_run, write_stage
from slipway.stages.state import fetch_run, share_file
from slipway.stages.tracking import TrackingStatus, close_runs, resolve_model_name

log = get_logger(__name__)

Outcome = Literal["SUCCEEDED", "FAILED", "CANCELLED"]

_KILLED = "its pod ended without a word: it was killed, ran out of memory or passed its time limit; the pod's events say which"

_TRACKING_STATUS: dict[Outcome, TrackingStatus] = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def run_finish(parameters: Mapping[str, Any], *, state: str, error: str) -> None:
    """Write how the run ended and what serves now; close its MLflow runs.

    `state` is KFP's: SUCCEEDED, or one of several that mean it did not.
    """
    settings = load_settings()
    configure_logging(settings.log_format)
    fetch_run(settings)
    _settle_stages(settings)
    if state == "SUCCEEDED":
        conclude_run(settings, parameters, "SUCCEEDED", "")
    else:
        conclude_run(settings, parameters, "FAILED", error)
    log.info("run finished", run_id=settings.run_id, state=state, error=error)


def conclude_run(settings: Settings, parameters: Mapping[str, Any], outcome: Outcome, error: str) -> None:
    """Write how the run of `settings` ended and what serves now; close its MLflow runs.

    Raises:
        RegistryError: MLflow cannot be reached; the record is written all the same.
    """
    run_dir = settings.run_dir
    record = read_run_if_any(run_dir) or begin_record(run_dir, parameters, settings.ir_hash)
    first = next((stage.error for stage in read_stages(run_dir) if stage.error), "")
    reason = first or error if outcome == "FAILED" else error
    name, serving = _find_serving(settings, parameters)
    version = serving.version if serving else None
    seconds = record.seconds or seconds_since(record.started_at)
    ended = replace(record, status=outcome, error=reason, seconds=seconds, model_name=name, serving_version=version)
    share_file(settings, write_run(run_dir, ended))
    close_runs(settings, _TRACKING_STATUS[outcome])


def _settle_stages(settings: Settings) -> None:
    """End the record of a stage whose pod was killed: when the exit handler runs, no other task does."""
    if not settings.in_cluster:
        return
    for stage in read_stages(settings.run_dir):
        if stage.status == "RUNNING":
            share_file(settings, write_stage(settings.run_dir, replace(stage, status="FAILED", error=_KILLED)))


def _find_serving(settings: Settings, parameters: Mapping[str, Any]) -> tuple[str | None, ServingRecord | None]:
    """The model's name and what serves under it, as far as they can be told."""
    try:
        config = config_from_parameters(parameters)
        name = resolve_model_name(config)
    except (ConfigError, DataError):  # the failing stage has said so
        return None, None
    try:
        return name, find_serving(settings, config.deploy, name)
    except SlipwayError as error:  # how the run ended is written all the same
        log.warning("what serves is not known", model=name, error=str(error))
        return name, None
