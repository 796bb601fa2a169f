"""The time that a deployment may take, beside the time limit of its task."""

import pytest

from slipway.config import DeployConfig
from slipway.deploy.duration import check_time, count_longest_seconds, lock_seconds
from slipway.errors import ConfigError
from slipway.stages.deploy import run_deploy


def test_the_settings_that_let_a_deployment_take_longer_count():
    usual = count_longest_seconds(DeployConfig())
    assert count_longest_seconds(DeployConfig(slo_seconds=610)) == usual + 2 * 600, "its own watch, and that of one it waits for"
    assert count_longest_seconds(DeployConfig(timeout_seconds=120)) > usual + lock_seconds(60, 0)
    assert count_longest_seconds(DeployConfig(slo_latency_ms=5000)) > usual
    assert count_longest_seconds(DeployConfig(slo_seconds=0)) < usual


def test_a_run_whose_parameters_ask_for_more_time_than_its_task_was_compiled_with_is_refused_with_the_remedy():
    limit = count_longest_seconds(DeployConfig())
    check_time(DeployConfig(), limit)
    check_time(DeployConfig(slo_seconds=3600), 0)
    with pytest.raises(ValueError, match=rf"deploy.slo_seconds=3600 .* ended after {limit} s.*Compile it with these settings"):
        check_time(DeployConfig(slo_seconds=3600), limit)


def test_the_deploy_stage_of_such_a_run_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_TASK_SECONDS", "900")
    with pytest.raises(ConfigError, match="this task is ended after 900 s"):
        run_deploy({"deploy_slo_seconds": 3600}, str(tmp_path / "bundle"), str(tmp_path / "evaluation"), str(tmp_path / "served"))
    assert not (tmp_path / "served").exists()
