"""The deploy stage: dark launch, smoke test, promotion, the alias last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.config import Config
from slipway.deploy.duration import check_time
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.promotion import Challenger, Deployment, deploy_challenger
from slipway.deploy.targets import open_deploy_target
from slipway.errors import DeployError
from slipway.overrides import config_from_parameters
from slipway.settings import Settings
from slipway.stages.cache import Facts
from slipway.stages.runner import stage_session
from slipway.stages.tracking import close_runs
from slipway.stages.verdict import Verdict, read_verdict
from slipway.storage.files import write_json


def run_deploy(parameters: Mapping[str, Any], bundle: str, evaluation: str, served: str) -> Facts:
    """Let the version that the gate let through serve; what serves then is written to `served`.

    Raises:
        ConfigError: the settings let it take longer than the task may.
        DeployError: it was not promoted; the message says why, and what still serves.
    """
    config = config_from_parameters(parameters)
    with stage_session("deploy") as session:
        check_time(config.deploy, session.settings.task_seconds)
        deployment = _deploy(config, Path(bundle), read_verdict(Path(evaluation)), session.settings)
        record = deployment.record
        session.cached = deployment.already_serving
        session.facts = {
            "model_name": record.model_name,
            "version": record.version,
            "bundle_id": record.bundle_id,
            "previous_version": record.previous.version if record.previous else "",
            "golden_max_difference": deployment.golden_max_difference,
        }
        write_json(Path(served), session.facts)
        if not deployment.already_serving:
            close_runs(session.settings, "FINISHED")
    return session.facts


def _deploy(config: Config, bundle: Path, verdict: Verdict, settings: Settings) -> Deployment:
    if not verdict.lineage.gate == "passed":
        raise DeployError(f"the gate did not let bundle {verdict.lineage.bundle_id} through: {verdict.lineage.gate_reasons}")
    challenger = Challenger(
        model_name=verdict.model_name,
        bundle_dir=bundle,
        lineage=verdict.lineage,
        evaluated_against=verdict.champion or None,
        tracking_run_id=verdict.tracking_run_id,
    )
    return deploy_challenger(settings, challenger, SmokePolicy.of(config.deploy), open_deploy_target(settings, config.deploy))
