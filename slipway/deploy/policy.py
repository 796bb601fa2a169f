"""What a deployment asks of a version, and how long it may take over it."""

from dataclasses import dataclass

from slipway.config import DeployConfig
from slipway.deploy.duration import lock_seconds
from slipway.deploy.slo import SloPolicy


@dataclass(frozen=True, kw_only=True)
class SmokePolicy:
    """What the endpoint must show before it is promoted; see `DeployConfig`."""

    tolerance: float
    timeout_seconds: float
    slo: SloPolicy | None = None
    """What it must show once it serves, where the target can ask it then."""

    @classmethod
    def of(cls, config: DeployConfig) -> "SmokePolicy":
        """What the settings say."""
        return cls(tolerance=config.smoke_tolerance, timeout_seconds=config.timeout_seconds, slo=SloPolicy.of(config))

    @property
    def lock_seconds(self) -> float:
        """How long a deployment may wait for another one."""
        return lock_seconds(self.timeout_seconds, self.slo.seconds if self.slo else 0.0)
