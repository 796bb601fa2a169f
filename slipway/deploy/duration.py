"""How long a deployment may take at most: what its task's time limit must cover."""

from slipway.config import DeployConfig
from slipway.deploy.slo import SloPolicy
from slipway.errors import ConfigError

_LOCK_FACTOR = 4
"""Times `timeout_seconds` that a deployment may take: it becomes ready, answers, registers, moves the alias."""
_REST_SECONDS = 370.0
"""Pods that end to make room, what is put back after a failure, bundles on their way, the task's own start."""


def lock_seconds(timeout_seconds: float, slo_seconds: float) -> float:
    """How long a deployment may wait for another one."""
    return _LOCK_FACTOR * timeout_seconds + slo_seconds


def count_longest_seconds(config: DeployConfig) -> int:
    """The longest that a deployment with these settings takes: another one is waited for, then it does its own work."""
    watch = SloPolicy.of(config)
    own = lock_seconds(config.timeout_seconds, config.slo_seconds)
    return round(2 * own + (watch.overtime_seconds if watch else 0.0) + _REST_SECONDS)


def check_time(config: DeployConfig, task_seconds: int) -> None:
    """See that a deployment has the time that its settings give it; with `task_seconds` of 0 it has no limit.

    Raises:
        ConfigError: the task would be ended in the middle of it.
    """
    longest = count_longest_seconds(config)
    if task_seconds and longest > task_seconds:
        raise ConfigError(
            f"with deploy.timeout_seconds={config.timeout_seconds}, deploy.slo_seconds={config.slo_seconds} and "
            f"deploy.slo_latency_ms={config.slo_latency_ms:g} a deployment may take {longest} s, but this task is ended after "
            f"{task_seconds} s, which is fixed in the compiled pipeline. Compile it with these settings (`slipway submit` does), "
            "or ask for less time."
        )
