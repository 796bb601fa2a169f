"""Training over several pods as a Kubernetes Indexed Job, with a headless Service for the pods' names."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from slipway.cluster.client import Cluster, translated_errors
from slipway.errors import ClusterError
from slipway.launch.worker_pod import CONTAINER, Json
from slipway.launch.workload import (
    KEPT_SECONDS,
    TRAINING_LABEL,
    WORK_ANNOTATION,
    WorkloadPlan,
    WorkloadState,
    WorkloadStatus,
    build_deletion,
)
from slipway.training.node import PORT
from slipway.training.node_failure import FAILED_FOR_GOOD

if TYPE_CHECKING:
    from kubernetes.client import V1Job

LEASE_SECONDS = 120
"""After its last renewal a Job ends by itself: longer than an API server is usually away, short enough for idle GPUs."""
_SERVICE_SECONDS = 60.0
_POLL_SECONDS = 0.5


class IndexedJobs:
    """The Jobs of one namespace."""

    kind = "Job"
    container = CONTAINER

    def __init__(self, cluster: Cluster, namespace: str, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.lease_seconds: float = lease_seconds

    def create(self, plan: WorkloadPlan) -> bool:
        """Create the Job, then the Service that it owns: the pods take longer to start than the Service to appear."""
        manifest = build_job(plan, lease_seconds=int(self.lease_seconds))
        try:
            with translated_errors(f"creating Job {plan.name}"):
                job = self._cluster.batch.create_namespaced_job(self._namespace, manifest)
        except ClusterError as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        try:
            self._provide_service(plan, job_uid=job.metadata.uid)
        except ClusterError:
            self.delete(plan.name, uid=job.metadata.uid)  # its pods would wait for names that nobody gives
            raise
        return True

    def complete(self, status: WorkloadStatus, plan: WorkloadPlan) -> None:
        """The Service, which whoever created the Job makes right after it."""
        self._provide_service(replace(plan, name=status.name), job_uid=status.uid)

    def _provide_service(self, plan: WorkloadPlan, *, job_uid: str) -> None:
        """Create it, unless the Job has it; first that of an earlier Job of this name, which is removed behind it, must go."""
        service = build_service(plan, job_uid=job_uid)
        name = service["metadata"]["name"]
        deadline = time.monotonic() + _SERVICE_SECONDS
        while True:
            try:
                with translated_errors(f"creating Service {name}"):
                    self._cluster.core.create_namespaced_service(self._namespace, service)
                return
            except ClusterError as error:
                if error.status != HTTPStatus.CONFLICT or time.monotonic() > deadline:
                    raise
            if job_uid in self._read_service_owners(name):
                return
            time.sleep(_POLL_SECONDS)

    def _read_service_owners(self, name: str) -> set[str]:
        try:
            with translated_errors(f"reading Service {name}"):
                service = self._cluster.core.read_namespaced_service(name, self._namespace)
        except ClusterError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return set()
            raise
        return {one.uid for one in service.metadata.owner_references or []}

    def find(self, training_key: str) -> Sequence[WorkloadStatus]:
        """By the label that each Job has."""
        with translated_errors(f"listing Jobs of {self._namespace}"):
            jobs = self._cluster.batch.list_namespaced_job(self._namespace, label_selector=f"{TRAINING_LABEL}={training_key}")
        by_age = sorted(jobs.items, key=lambda job: (job.metadata.creation_timestamp, job.metadata.name))
        return [read_status(job) for job in by_age]

    def read(self, name: str) -> WorkloadStatus | None:
        """One Job."""
        try:
            with translated_errors(f"reading Job {name}"):
                return read_status(self._cluster.batch.read_namespaced_job(name, self._namespace))
        except ClusterError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def set_owners(self, status: WorkloadStatus, owners: Sequence[Json]) -> None:
        """The Service follows: the Job owns it."""
        self._patch(
            status.name,
            [
                {"op": "test", "path": "/metadata/resourceVersion", "value": status.version},
                {"op": "add", "path": "/metadata/ownerReferences", "value": list(owners)},
            ],
        )

    def renew(self, status: WorkloadStatus) -> None:
        """The deadline counts from the Job's start."""
        deadline = int(status.age_seconds + self.lease_seconds)
        self._patch(status.name, [{"op": "add", "path": "/spec/activeDeadlineSeconds", "value": deadline}])

    def delete(self, name: str, *, uid: str = "") -> None:
        """The Job is gone at once; pods and Service are removed behind it."""
        try:
            with translated_errors(f"deleting Job {name}"):
                self._cluster.batch.delete_namespaced_job(name, self._namespace, body=build_deletion(uid))
        except ClusterError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    def pod_selector(self, name: str) -> str:
        """The label that the Job controller gives its pods."""
        return f"batch.kubernetes.io/job-name={name}"

    def job_name(self, name: str) -> str:
        """Its own."""
        return name

    def _patch(self, name: str, changes: list[Json]) -> None:
        with translated_errors(f"changing Job {name}"):
            self._cluster.batch.patch_namespaced_job(name, self._namespace, changes)


def build_job(plan: WorkloadPlan, *, lease_seconds: int = LEASE_SECONDS) -> Json:
    """The Job.

    A pod that dies is started again, `max_restarts` times for each index; evictions do not count. A node that failed for good
    ends the whole Job, and node 0's success is the Job's: the others stand by until then.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.name,
            "labels": plan.labels,
            "annotations": {WORK_ANNOTATION: plan.work_uri},
            "ownerReferences": [plan.owner] if plan.owner else [],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": plan.num_nodes,
            "parallelism": plan.num_nodes,
            "backoffLimitPerIndex": plan.max_restarts,
            "maxFailedIndexes": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": lease_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [FAILED_FOR_GOOD]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": plan.labels},
                "spec": plan.pod.build_spec(plan.command, plan.run_id, subdomain=plan.name),
            },
        },
    }


def build_service(plan: WorkloadPlan, *, job_uid: str) -> Json:
    """The headless Service under which each pod has a name: `<job>-<index>.<job>`, before it is ready too."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": plan.name, "uid": job_uid}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": plan.name, "labels": plan.labels, "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": plan.name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }


def read_status(job: "V1Job") -> WorkloadStatus:
    """What matters of a Job."""
    conditions = {one.type: one for one in job.status.conditions or [] if one.status == "True"}
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    started = job.status.start_time or job.metadata.creation_timestamp
    return WorkloadStatus(
        name=job.metadata.name,
        state=_read_state(job, set(conditions)),
        message=f"{failed.reason}: {failed.message}" if failed else "",
        deleting=job.metadata.deletion_timestamp is not None,
        uid=job.metadata.uid,
        owners=tuple(_describe_owner(one) for one in job.metadata.owner_references or []),
        version=job.metadata.resource_version,
        age_seconds=max(0.0, (datetime.now(UTC) - started).total_seconds()),
    )


def _read_state(job: "V1Job", conditions: set[str]) -> WorkloadState:
    if conditions & {"Complete", "SuccessCriteriaMet"} or _is_zero_done(job.status.completed_indexes or ""):
        return "succeeded"
    return "failed" if conditions & {"Failed", "FailureTarget"} else "running"


def _is_zero_done(completed: str) -> bool:
    """Whether a list of indexes such as `0-2,5` begins with 0; clusters older than the success policy tell no other way."""
    return completed.partition(",")[0].partition("-")[0] == "0"


def _describe_owner(owner: Any) -> Json:
    return {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
