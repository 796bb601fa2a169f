"""The exit handler's work: whatever happened, the run has a summary and nothing is left open."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slipway.log import configure_logging, get_logger
from slipway.overrides import config_from_parameters
from slipway.serving.record import read_serving
from slipway.settings import load_settings
from slipway.stages.record import RunRecord, read_run_if_any, read_stages, utc_now, write_run
from slipway.stages.tracking import close_pipeline, resolve_model_name

log = get_logger(__name__)


def run_finish(parameters: Mapping[str, Any], *, state: str, error: str) -> None:
    """Write how the run ended and what serves now; close its MLflow run.

    `state` is KFP's: SUCCEEDED, or one of several that mean it did not.
    """
    settings = load_settings()
    configure_logging(settings.log_format)
    config = config_from_parameters(parameters)
    run_dir = settings.runs_dir / (settings.run_id or "standalone")
    succeeded = state == "SUCCEEDED"
    stages = read_stages(run_dir)
    reason = next((stage.error for stage in stages if stage.error), error)
    record = read_run_if_any(run_dir) or RunRecord(
        run_id=run_dir.name,
        pipeline="training",
        status="RUNNING",
        started_at=stages[0].started_at if stages else utc_now(),
        parameters=dict(parameters),
    )
    serving = read_serving(settings, resolve_model_name(config))
    write_run(
        run_dir,
        replace(
            record,
            status="SUCCEEDED" if succeeded else "FAILED",
            error="" if succeeded else reason,
            serving_version=serving.version if serving else None,
        ),
    )
    close_pipeline(settings, "FINISHED" if succeeded else "FAILED")
    log.info("run finished", run_id=run_dir.name, state=state, error="" if succeeded else reason)
