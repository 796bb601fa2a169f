"""What a launcher asks of the kind of object that runs a training's pods: a Kubernetes Job, or a Kubeflow TrainJob."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from slipway.launch.worker_pod import ROLE_LABEL, Json, WorkerPod
from slipway.settings import Settings

WorkloadState = Literal["running", "succeeded", "failed"]

TRAINING_LABEL = "slipway.dev/training"
RUN_LABEL = "slipway.dev/run"
WORK_ANNOTATION = "slipway.dev/work-uri"
KEPT_SECONDS = 3600
"""How long a finished one stays, for people to look at; its result is in the object store."""
_RUN_CHARACTERS = 36
_KEY_CHARACTERS = 8


@dataclass(frozen=True, kw_only=True)
class WorkloadPlan:
    """One training to be run by pods."""

    name: str
    training_key: str
    run_id: str
    work_uri: str
    meeting: str
    """New for each plan: pods of an earlier Job of the same name are no part of this one."""
    num_nodes: int
    num_processes: int
    """Of each node."""
    max_restarts: int
    owner: Json | None
    """ownerReference to the launching pod; None where the launcher is no pod."""
    pod: WorkerPod
    timeout_seconds: int

    @property
    def command(self) -> list[str]:
        """What each pod runs; the kubelet fills in its index."""
        arguments = ["--work-uri", self.work_uri, "--index", "$(JOB_COMPLETION_INDEX)", "--meeting", self.meeting]
        return ["python", "-m", "slipway.training.node", *arguments]

    @property
    def labels(self) -> dict[str, str]:
        """On every object that belongs to the training."""
        return {
            "app.kubernetes.io/name": "slipway-training",
            "app.kubernetes.io/managed-by": "slipway",
            ROLE_LABEL: "worker",
            TRAINING_LABEL: self.training_key,
            RUN_LABEL: dns_label(self.run_id) or "none",
        }


@dataclass(frozen=True, kw_only=True)
class WorkloadStatus:
    """One as the API server has it."""

    name: str
    state: WorkloadState
    """`succeeded` as soon as node 0 has: it ends last."""
    message: str
    """The cluster's own words where it has failed; may be empty."""
    deleting: bool
    uid: str
    """Tells it from another of the same name."""
    owners: tuple[Json, ...]
    """Its ownerReferences."""
    version: str
    """resourceVersion, for changes that must not meet another's."""
    age_seconds: float
    """Since it began."""


class Workload(Protocol):
    """The verbs. All raise ClusterError where the API server does not answer or refuses."""

    kind: str
    """As people know it."""
    container: str
    """Name of the training container in its pods."""
    lease_seconds: float
    """After which it ends unless `renew` holds that off; 0 where it cannot, and it ends after the plan's timeout."""

    def create(self, plan: WorkloadPlan) -> bool:
        """Create it; False where there is one of this name."""

    def complete(self, status: WorkloadStatus, plan: WorkloadPlan) -> None:
        """Create what belongs to it and is not there: whoever created it may have been killed in between.

        `plan` is the caller's own; names follow the workload.
        """

    def find(self, training_key: str) -> Sequence[WorkloadStatus]:
        """All of this training, the oldest first; those of one second by name."""

    def read(self, name: str) -> WorkloadStatus | None:
        """One by name; None where there is none."""

    def set_owners(self, status: WorkloadStatus, owners: Sequence[Json]) -> None:
        """Replace its owners; ClusterError with status 409 or 422 where it has changed since it was read."""

    def renew(self, status: WorkloadStatus) -> None:
        """Hold off its end for another lease."""

    def delete(self, name: str, *, uid: str = "") -> None:
        """Delete it, with its pods; nothing where it is gone, or where `uid` is given and is not its own."""

    def pod_selector(self, name: str) -> str:
        """Label selector of its pods."""

    def job_name(self, name: str) -> str:
        """Name of the Kubernetes Job that makes its pods, of which events tell why it could not."""


def name_workload(run_id: str, training_key: str) -> str:
    """The name of a training's objects: after the run, and different for each of its trainings.

    A DNS label of at most 51 characters, so that a pod's name with its index is one too.
    """
    run = dns_label(run_id)
    return "-".join(part for part in ("train", run, training_key[:_KEY_CHARACTERS]) if part)


def dns_label(text: str) -> str:
    """`text` as the part of a name: small letters, digits and single dashes, at most 36."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_RUN_CHARACTERS].strip("-")


def build_deletion(uid: str) -> Json:
    """The request's body: dependants go behind what is deleted; with `uid`, only that very object is (409 for another)."""
    return {"propagationPolicy": "Background"} | ({"preconditions": {"uid": uid}} if uid else {})


def own_reference(settings: Settings) -> Json | None:
    """The launching pod as an owner: with it, Kubernetes removes what it owns."""
    if not (settings.pod_name and settings.pod_uid):
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": settings.pod_name, "uid": settings.pod_uid}
