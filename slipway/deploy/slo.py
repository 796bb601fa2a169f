"""Watching a version that has just been promoted: errors, latency and restarts, for a while."""

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.config import DeployConfig
from slipway.errors import DeployError

if TYPE_CHECKING:
    from slipway.deploy.target import Endpoint
    from slipway.export.bundle import Bundle

_REQUESTS_PER_SECOND = 10.0
_HEALTH_SECONDS = 1.0
_SLOW_SHARE = 0.01
_SLOW_SECONDS = 10.0
"""An answer is waited for so long at least."""
_SLOW_FACTOR = 10.0
"""And so many times the accepted latency, if that is longer."""
_MIN_ANSWERS = 20
"""Of which a slow one is borne; where there are fewer by the end, the watch goes on for more."""


@dataclass(frozen=True, kw_only=True)
class SloPolicy:
    """What a promoted version must show; see `DeployConfig`."""

    seconds: float
    max_error_rate: float
    max_latency_ms: float
    """For the 99th percentile, measured from where the deployment runs."""

    @classmethod
    def of(cls, config: DeployConfig) -> "SloPolicy | None":
        """What the settings say; None where nothing is watched."""
        if not config.slo_seconds:
            return None
        return cls(seconds=config.slo_seconds, max_error_rate=config.slo_error_rate, max_latency_ms=config.slo_latency_ms)

    @property
    def limit_seconds(self) -> float:
        """After which an answer counts as missing."""
        return max(_SLOW_SECONDS, _SLOW_FACTOR * self.max_latency_ms / 1000)

    @property
    def overtime_seconds(self) -> float:
        """How much longer than `seconds` the watch takes at most: answers that are good, and a slow one."""
        return _MIN_ANSWERS * self.max_latency_ms / 1000 + self.limit_seconds


@dataclass(frozen=True, kw_only=True)
class SloResult:
    """What was seen."""

    num_requests: int
    error_rate: float
    latency_ms: float
    """99th percentile of those that were answered; of fewer than a hundred, and no fewer than twenty, the slowest but one."""


def watch_slo(endpoint: "Endpoint", bundle: "Bundle", policy: SloPolicy, *, tolerance: float) -> SloResult:
    """Ask for golden examples, a few a second and one at a time, until the policy's time has passed.

    One answer may be slow, whatever the time allowed for: a lost packet in the cluster's DNS costs the asker five seconds. Where
    it has left too few others to be judged by, the watch goes on until there are enough; a second one ends it.

    Raises:
        DeployError: too many were not answered or wrongly so, answers were too slow, or the predictor was restarted. What
            can no longer be met ends the watch at once.
    """
    from slipway.deploy.smoke import ask_example

    start = time.monotonic()
    planned = max(1, int(policy.seconds * _REQUESTS_PER_SECOND))
    allowed = int(policy.max_error_rate * planned)
    allowed_slow = count_allowed_slow(max(planned, _MIN_ANSWERS))
    latencies: list[float] = []
    errors: list[str] = []
    errors_in_time: int | None = None
    checked_at = -math.inf
    for position, example in enumerate(itertools.cycle(bundle.golden)):
        time.sleep(max(0.0, start + position / _REQUESTS_PER_SECOND - time.monotonic()))
        num_slow = _count_slow(latencies, policy)
        if position >= planned or time.monotonic() - start > policy.seconds:
            errors_in_time = len(errors) if errors_in_time is None else errors_in_time
            if num_slow != 1 or len(latencies) >= _MIN_ANSWERS or len(errors) > errors_in_time:
                break
        elif num_slow > allowed_slow:
            break
        if time.monotonic() - checked_at >= _HEALTH_SECONDS:
            endpoint.check_health()
            checked_at = time.monotonic()
        asked_at = time.perf_counter()
        try:
            where, limit = "A golden example", policy.limit_seconds
            ask_example(endpoint, bundle, example, tolerance=tolerance, timeout_seconds=limit, where=where)
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


def count_allowed_slow(num_answers: int) -> int:
    """How many answers may be slower than accepted: one in a hundred, and one of twenty or more. Fewer prove nothing with one."""
    return max(1, int(_SLOW_SHARE * num_answers)) if num_answers >= _MIN_ANSWERS else 0


def _count_slow(latencies: list[float], policy: SloPolicy) -> int:
    return sum(latency > policy.max_latency_ms for latency in latencies)


def _judge(latencies: list[float], errors: list[str], policy: SloPolicy) -> SloResult:
    total = len(latencies) + len(errors)
    latency = sorted(latencies)[len(latencies) - 1 - count_allowed_slow(len(latencies))] if latencies else math.inf
    result = SloResult(num_requests=total, error_rate=len(errors) / total, latency_ms=latency)
    if result.error_rate > policy.max_error_rate:
        raise DeployError(f"{len(errors)} of {total} requests failed after the promotion; the last: {errors[-1]}")
    if latency > policy.max_latency_ms:
        raise DeployError(
            f"After the promotion the 99th percentile of {len(latencies)} answers was {latency:.0f} ms; accepted: "
            f"{policy.max_latency_ms:g} ms (deploy.slo_latency_ms). Slower than that were {_count_slow(latencies, policy)}."
        )
    return result
