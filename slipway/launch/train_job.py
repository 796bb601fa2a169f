"""Training over several pods as a TrainJob of Kubeflow Trainer 2, with the ClusterTrainingRuntime `slipway`.

Its pods run the same program as an Indexed Job's, under JobSet's names, which end in the pod's index too. Two things differ: a
TrainJob's deadline cannot be changed, so there is no lease, and only its owner and the signal handler end it early; and the
runtime, not the launcher, says how often a pod is started again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from slipway.cluster.client import Cluster, translated_errors
from slipway.cluster.resources import CustomResources, ResourceKind
from slipway.errors import ClusterError
from slipway.launch.worker_pod import Json
from slipway.launch.workload import TRAINING_LABEL, WORK_ANNOTATION, WorkloadPlan, WorkloadState, WorkloadStatus, build_deletion

TRAIN_JOB = ResourceKind(kind="TrainJob", group="trainer.kubeflow.org", version="v1alpha1", plural="trainjobs")
RUNTIME = "slipway"
"""Of the ClusterTrainingRuntime in manifests/components/trainer-runtime."""
NODE = "node"
"""Kubeflow Trainer's name of the replicated job that trains, and of its container."""
SHARED_MEMORY_VOLUME = "dshm"
"""Of the ClusterTrainingRuntime's pod, at /dev/shm."""
MANAGER = "slipway.dev/launcher"


class TrainJobs:
    """The TrainJobs of one namespace."""

    kind = "TrainJob"
    container = NODE
    lease_seconds = 0.0

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._resources = CustomResources(cluster=cluster, namespace=namespace, kind=TRAIN_JOB)

    def create(self, plan: WorkloadPlan) -> bool:
        """The pods' Service is JobSet's own."""
        try:
            with translated_errors(f"creating TrainJob {plan.name}"):
                self._cluster.custom.create_namespaced_custom_object(
                    TRAIN_JOB.group, TRAIN_JOB.version, self._namespace, TRAIN_JOB.plural, build_train_job(plan)
                )
        except ClusterError as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def complete(self, status: WorkloadStatus, plan: WorkloadPlan) -> None:
        """Nothing: what belongs to a TrainJob its controller makes."""

    def find(self, training_key: str) -> Sequence[WorkloadStatus]:
        """By the label that each TrainJob has."""
        found = self._resources.list(f"{TRAINING_LABEL}={training_key}")  # by name
        return [read_status(one) for one in sorted(found, key=lambda one: str(one["metadata"]["creationTimestamp"]))]

    def read(self, name: str) -> WorkloadStatus | None:
        """One TrainJob."""
        found = self._resources.get(name)
        return read_status(found) if found is not None else None

    def set_owners(self, status: WorkloadStatus, owners: Sequence[Json]) -> None:
        """JobSet, Service and pods follow: the TrainJob owns them."""
        change = {"metadata": {"resourceVersion": status.version, "ownerReferences": list(owners)}}
        with translated_errors(f"changing TrainJob {status.name}"):
            self._cluster.custom.patch_namespaced_custom_object(
                TRAIN_JOB.group, TRAIN_JOB.version, self._namespace, TRAIN_JOB.plural, status.name, change
            )

    def renew(self, status: WorkloadStatus) -> None:
        """Nothing: the deadline of a TrainJob is what it was created with."""

    def delete(self, name: str, *, uid: str = "") -> None:
        """The TrainJob is gone at once, what it owns is removed behind it."""
        try:
            with translated_errors(f"deleting TrainJob {name}"):
                self._cluster.custom.delete_namespaced_custom_object(
                    TRAIN_JOB.group, TRAIN_JOB.version, self._namespace, TRAIN_JOB.plural, name, body=build_deletion(uid)
                )
        except ClusterError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    def pod_selector(self, name: str) -> str:
        """The labels that JobSet gives the pods of the replicated job that trains."""
        return f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"

    def job_name(self, name: str) -> str:
        """JobSet's, for the only Job of that replicated job."""
        return f"{name}-{NODE}-0"


def build_train_job(plan: WorkloadPlan) -> Json:
    """The TrainJob: what differs from the ClusterTrainingRuntime `slipway`, whose pod has scratch space and shared memory.

    `envFrom` cannot be handed on (a TrainJob has no such field): variables that a task takes one by one are.
    """
    pod = plan.pod
    patch: Json = {
        "serviceAccountName": pod.service_account,
        "securityContext": pod.pod_security,
        "tolerations": pod.tolerations,
        "nodeSelector": pod.node_selector,
        "imagePullSecrets": pod.image_pull_secrets,
        "affinity": pod.affinity,
        "volumes": [*pod.volumes, *_build_shared_memory(pod.shared_memory)],
        "containers": [{"name": NODE, "volumeMounts": pod.mounts}] if pod.mounts else [],
    }
    spec = {name: value for name, value in patch.items() if value}
    replicated = {"name": NODE, "template": {"spec": {"template": {"metadata": {"labels": plan.labels}, "spec": spec}}}}
    return {
        "apiVersion": f"{TRAIN_JOB.group}/{TRAIN_JOB.version}",
        "kind": TRAIN_JOB.kind,
        "metadata": {
            "name": plan.name,
            "labels": plan.labels,
            "annotations": {WORK_ANNOTATION: plan.work_uri},
            "ownerReferences": [plan.owner] if plan.owner else [],
        },
        "spec": {
            "runtimeRef": {"apiGroup": TRAIN_JOB.group, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            "trainer": {
                "image": pod.image,
                "command": plan.command,
                "env": pod.build_env(plan.run_id),
                "numNodes": plan.num_nodes,
                "numProcPerNode": plan.num_processes,
                "resourcesPerNode": pod.resources,
            },
            "runtimePatches": [
                {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}}}
            ],
            "activeDeadlineSeconds": plan.timeout_seconds,
        },
    }


def _build_shared_memory(size: str) -> list[Json]:
    """The runtime's volume in another size, where one is asked for."""
    return [{"name": SHARED_MEMORY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}}] if size else []


def read_status(found: Json) -> WorkloadStatus:
    """What matters of a TrainJob."""
    metadata: Json = found["metadata"]
    conditions: dict[str, Json] = {
        one["type"]: one for one in found.get("status", {}).get("conditions", []) if one["status"] == "True"
    }
    failed = conditions.get("Failed")
    return WorkloadStatus(
        name=metadata["name"],
        state=_read_state(conditions),
        message=f"{failed.get('reason', '')}: {failed.get('message', '')}" if failed else "",
        deleting="deletionTimestamp" in metadata,
        uid=metadata["uid"],
        owners=tuple(metadata.get("ownerReferences", ())),
        version=metadata["resourceVersion"],
        age_seconds=max(0.0, (datetime.now(UTC) - datetime.fromisoformat(metadata["creationTimestamp"])).total_seconds()),
    )


def _read_state(conditions: dict[str, Any]) -> WorkloadState:
    if "Complete" in conditions:
        return "succeeded"
    return "failed" if "Failed" in conditions else "running"
