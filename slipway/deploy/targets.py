"""Which deploy target the settings mean."""

from typing import TYPE_CHECKING, Literal

from slipway.config import DeployConfig
from slipway.deploy.local import LocalTarget
from slipway.deploy.target import DeployTarget
from slipway.serving.record import ServingRecord
from slipway.settings import Settings

if TYPE_CHECKING:
    from slipway.deploy.inference_service import Replicas

TargetName = Literal["auto", "local", "kserve"]


def resolve_target(settings: Settings, name: TargetName) -> Literal["local", "kserve"]:
    """What `auto` means: KServe in a pod that keeps its state in an object store, else this machine."""
    if name != "auto":
        return name
    return "kserve" if settings.in_cluster and settings.models_uri else "local"


def open_target(settings: Settings, name: TargetName = "auto", *, replicas: "Replicas | None" = None) -> DeployTarget:
    """The deploy target of this name. Opening the local one imports no client.

    Raises:
        ClusterError: KServe is asked for and no cluster is configured.
    """
    if resolve_target(settings, name) == "local":
        return LocalTarget(settings=settings)
    from slipway.cluster.client import open_cluster
    from slipway.deploy.kserve import KServeTarget

    return KServeTarget(settings, open_cluster(settings), replicas=replicas)


def open_deploy_target(settings: Settings, config: DeployConfig) -> DeployTarget:
    """The deploy target of a run; see `open_target`."""
    from slipway.deploy.inference_service import Replicas

    return open_target(settings, config.target, replicas=Replicas(min=config.min_replicas, max=config.max_replicas))


def find_serving(settings: Settings, config: DeployConfig, model_name: str) -> ServingRecord | None:
    """What serves under this name where the run deploys to; None where nothing does."""
    return open_target(settings, config.target).read_serving(model_name)
