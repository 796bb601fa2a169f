"""Watching a version that has just been promoted: errors, latency and restarts, for a while."""

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.errors import DeployError

if TYPE_CHECKING:
    from slipway.deploy.target import Endpoint
    from slipway.export.bundle import Bundle

REQUESTS_PER_SECOND = 10.0
_HEALTH_SECONDS = 1.0
_TIMEOUT_FACTOR = 10.0
"""Times the accepted latency after which an answer counts as missing."""
_PERCENTILE = 0.99


@dataclass(frozen=True, kw_only=True)
class SloPolicy:
    """What a promoted version must show; see `DeployConfig`."""

    seconds: float
    max_error_rate: float
    max_latency_ms: float
    """For the 99th percentile, measured from where the deployment runs."""


@dataclass(frozen=True, kw_only=True)
class SloResult:
    """What was seen."""

    num_requests: int
    error_rate: float
    latency_ms: float
    """99th percentile of those that were answered; of fewer than a hundred, the slowest but one."""


def watch_slo(endpoint: "Endpoint", bundle: "Bundle", policy: SloPolicy, *, tolerance: float) -> SloResult:
    """Ask for golden examples, a few a second and one at a time, until the policy's time has passed.

    Raises:
        DeployError: too many were not answered or wrongly so, answers were too slow, or the predictor was restarted. An
            error rate that can no longer be met ends the watch at once.
    """
    from slipway.deploy.smoke import ask_example

    start = time.monotonic()
    planned = max(1, int(policy.seconds * REQUESTS_PER_SECOND))
    allowed = int(policy.max_error_rate * planned)
    latencies: list[float] = []
    errors: list[str] = []
    checked_at = -math.inf
    for position, example in zip(range(planned), itertools.cycle(bundle.golden), strict=False):
        time.sleep(max(0.0, start + position / REQUESTS_PER_SECOND - time.monotonic()))
        if time.monotonic() - start > policy.seconds:
            break
        if time.monotonic() - checked_at >= _HEALTH_SECONDS:
            endpoint.check_health()
            checked_at = time.monotonic()
        asked_at = time.perf_counter()
        try:
            limit = policy.max_latency_ms / 1000 * _TIMEOUT_FACTOR
            ask_example(endpoint, bundle, example, tolerance=tolerance, timeout_seconds=limit, where="A golden example")
            latencies.append((time.perf_counter() - asked_at) * 1000)
        except DeployError as error:
            errors.append(str(error))
            if len(errors) > allowed:
                raise DeployError(
                    f"{len(errors)} of {position + 1} requests failed in the {policy.seconds:g} s after the promotion "
                    f"(deploy.slo_error_rate {policy.max_error_rate:g}); the last: {error}"
                ) from None
    endpoint.check_health()
    return _judge(latencies, errors, policy)


def _judge(latencies: list[float], errors: list[str], policy: SloPolicy) -> SloResult:
    total = len(latencies) + len(errors)
    # Of fewer than a hundred answers one may be slow: a lost packet in the cluster's DNS, say, costs the asker five seconds.
    num_slow = max(1, int((1 - _PERCENTILE) * len(latencies)))
    latency = sorted(latencies)[max(0, len(latencies) - 1 - num_slow)] if latencies else math.inf
    result = SloResult(num_requests=total, error_rate=len(errors) / total, latency_ms=latency)
    if result.error_rate > policy.max_error_rate:
        raise DeployError(f"{len(errors)} of {total} requests failed after the promotion; the last: {errors[-1]}")
    if latency > policy.max_latency_ms:
        raise DeployError(
            f"After the promotion the 99th percentile of {total} answers was {latency:.0f} ms; accepted: "
            f"{policy.max_latency_ms:g} ms (deploy.slo_latency_ms)."
        )
    return result
