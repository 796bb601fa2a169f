"""The exit handler's work: whatever happened, the run has a summary and nothing is left open."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from slipway.errors import ConfigError, DataError
from slipway.log import configure_logging, get_logger
from slipway.overrides import config_from_parameters
from slipway.serving.record import read_serving
from slipway.settings import Settings, load_settings
from slipway.stages.record import RunRecord, read_run_if_any, read_stages, utc_now, write_run
from slipway.stages.tracking import TrackingStatus, close_runs, resolve_model_name

log = get_logger(__name__)

Outcome = Literal["SUCCEEDED", "FAILED", "CANCELLED"]

_TRACKING_STATUS: dict[Outcome, TrackingStatus] = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def run_finish(parameters: Mapping[str, Any], *, state: str, error: str) -> None:
    """Write how the run ended and what serves now; close its MLflow runs.

    `state` is KFP's: SUCCEEDED, or one of several that mean it did not.
    """
    settings = load_settings()
    configure_logging(settings.log_format)
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
    stages = read_stages(run_dir)
    record = read_run_if_any(run_dir) or RunRecord(
        run_id=run_dir.name,
        pipeline="training",
        status="RUNNING",
        started_at=stages[0].started_at if stages else utc_now(),
        parameters=dict(parameters),
    )
    first = next((stage.error for stage in stages if stage.error), "")
    reason = first or error if outcome == "FAILED" else error
    name = _find_model_name(parameters)
    serving = read_serving(settings, name) if name else None
    ended = replace(record, status=outcome, error=reason, model_name=name, serving_version=serving.version if serving else None)
    write_run(run_dir, ended)
    close_runs(settings, _TRACKING_STATUS[outcome])


def _find_model_name(parameters: Mapping[str, Any]) -> str | None:
    try:
        return resolve_model_name(config_from_parameters(parameters))
    except (ConfigError, DataError):  # the failing stage has said so
        return None
