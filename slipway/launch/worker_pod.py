"""What each pod of a training over several nodes is like: the pod that launches it, with the resources that the pipeline gives.

The launcher reads its own pod, so that workers come with the same image, environment, security and place in the cluster as the
task that asked for them; secrets stay references. The compiled pipeline says what they may use (SLIPWAY_WORKER_POD), so that
the launcher itself need not hold processors and GPUs while it waits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.errors import ConfigError

Json = dict[str, Any]

CONTAINER = "train"
ROLE_LABEL = "slipway.dev/role"
NODE_HOME = "/tmp/slipway"  # noqa: S108 - a pod's own folder
GRACE_SECONDS = 30
_USER = 1000
_KFP_CONTAINER = "main"
SHARED_MEMORY = "2Gi"
_OWN_VARIABLES = (
    "KFP_",
    "ARGO_",
    "METADATA_",
    "ML_PIPELINE_",
    "MLFLOW_RUN_ID",
    "SLIPWAY_WORKER_POD",
    "SLIPWAY_HOME",
    "SLIPWAY_RUN",
)
"""Beginnings of variables that speak of the launching pod alone."""
_FORWARDED_VOLUMES = ("configMap", "secret")
_DEFAULT_TIMEOUT_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class WorkerNeeds:
    """What a compiled pipeline gives each worker, and how long the whole training may take."""

    resources: Json | None
    """None takes the launching container's own."""
    tolerations: Sequence[Json] = ()
    node_selector: Mapping[str, str] | None = None
    shared_memory: str = ""
    """Size of /dev/shm; "" takes 2 GiB, or what the runtime of a TrainJob says."""
    timeout_seconds: int = _DEFAULT_TIMEOUT_SECONDS

    def to_json(self) -> str:
        """The form that stands in SLIPWAY_WORKER_POD."""
        content = {
            "resources": self.resources,
            "tolerations": list(self.tolerations),
            "nodeSelector": dict(self.node_selector or {}),
            "sharedMemory": self.shared_memory,
            "timeoutSeconds": self.timeout_seconds,
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> "WorkerNeeds":
        """Read what `to_json` gave; "" gives the defaults.

        Raises:
            ConfigError: it is of another form.
        """
        try:
            content = json.loads(text or "{}")
            return cls(
                resources=content.get("resources"),
                tolerations=tuple(content.get("tolerations", ())),
                node_selector=content.get("nodeSelector") or None,
                shared_memory=content.get("sharedMemory", ""),
                timeout_seconds=int(content.get("timeoutSeconds", _DEFAULT_TIMEOUT_SECONDS)),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"SLIPWAY_WORKER_POD is {text[:200]!r}, which is not accepted ({error}). It is written by pipelines/compile.py: "
                "compile the pipeline again with the Slipway that runs it."
            ) from None


@dataclass(frozen=True, kw_only=True)
class WorkerPod:
    """The parts of a worker's pod that are taken over; in the API's own JSON."""

    image: str
    image_pull_policy: str | None
    env: list[Json]
    env_from: list[Json]
    resources: Json
    tolerations: list[Json]
    node_selector: dict[str, str]
    affinity: Json | None
    image_pull_secrets: list[Json]
    service_account: str
    pod_security: Json
    volumes: list[Json]
    mounts: list[Json]
    shared_memory: str

    @classmethod
    def from_launcher(cls, pod: Json, needs: WorkerNeeds) -> "WorkerPod":
        """Take over from the launching pod what a worker should share with it; what `needs` states comes before it."""
        spec = pod["spec"]
        container = next((one for one in spec["containers"] if one["name"] == _KFP_CONTAINER), spec["containers"][0])
        volumes = {one["name"]: one for one in spec.get("volumes", []) if any(kind in one for kind in _FORWARDED_VOLUMES)}
        mounts = [one for one in container.get("volumeMounts", []) if one["name"] in volumes]
        return cls(
            image=container["image"],
            image_pull_policy=container.get("imagePullPolicy"),
            env=[one for one in container.get("env", []) if _is_forwarded(one)],
            env_from=container.get("envFrom", []),
            resources=needs.resources if needs.resources is not None else container.get("resources", {}),
            tolerations=_merge_tolerations(spec.get("tolerations", []), needs.tolerations),
            node_selector={**spec.get("nodeSelector", {}), **(needs.node_selector or {})},
            affinity=spec.get("affinity"),
            image_pull_secrets=spec.get("imagePullSecrets", []),
            service_account=spec.get("serviceAccountName", "default"),
            pod_security=_build_pod_security(spec.get("securityContext", {}), container.get("securityContext", {})),
            volumes=[volumes[name] for name in dict.fromkeys(one["name"] for one in mounts)],
            mounts=mounts,
            shared_memory=needs.shared_memory,
        )

    def build_env(self, run_id: str) -> list[Json]:
        """The container's environment."""
        return [*self.env, {"name": "SLIPWAY_HOME", "value": NODE_HOME}, {"name": "SLIPWAY_RUN_ID", "value": run_id}]

    def build_container(self, name: str, command: Sequence[str], run_id: str) -> Json:
        """The container that runs `command`, as Pod Security `restricted` admits it."""
        container = {
            "name": name,
            "image": self.image,
            "command": list(command),
            "env": self.build_env(run_id),
            "envFrom": self.env_from,
            "resources": self.resources,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [*self.build_own_mounts(), *self.mounts],
        }
        return container | ({"imagePullPolicy": self.image_pull_policy} if self.image_pull_policy else {})

    def build_spec(self, command: Sequence[str], run_id: str, *, subdomain: str) -> Json:
        """The pod's spec, for a Job that never restarts a container in place."""
        spec = {
            "restartPolicy": "Never",
            "subdomain": subdomain,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "serviceAccountName": self.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": self.pod_security,
            "containers": [self.build_container(CONTAINER, command, run_id)],
            "volumes": [*self.build_own_volumes(), *self.volumes],
            "tolerations": self.tolerations,
            "nodeSelector": self.node_selector,
            "imagePullSecrets": self.image_pull_secrets,
        }
        return spec | ({"affinity": self.affinity} if self.affinity else {})

    def build_own_volumes(self) -> list[Json]:
        """Scratch space and the shared memory that processes of one node exchange tensors through."""
        return [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": self.shared_memory or SHARED_MEMORY}},
        ]

    def build_own_mounts(self) -> list[Json]:
        """Where `build_own_volumes` are."""
        return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108


def _is_forwarded(variable: Json) -> bool:
    """Variables that name the launching pod's own fields would be empty or wrong in another."""
    return not variable["name"].startswith(_OWN_VARIABLES) and "fieldRef" not in variable.get("valueFrom", {})


def _merge_tolerations(launcher: Sequence[Json], needs: Sequence[Json]) -> list[Json]:
    # Kubernetes adds these two to every pod by itself.
    automatic = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    merged = [one for one in launcher if one.get("key") not in automatic]
    return merged + [one for one in needs if one not in merged]


def _build_pod_security(pod: Json, container: Json) -> Json:
    """The launcher's user and groups; never root."""
    user = container.get("runAsUser", pod.get("runAsUser", _USER))
    taken_over = {
        name: value
        for name in ("runAsGroup", "fsGroup", "supplementalGroups")
        if (value := container.get(name, pod.get(name))) is not None
    }
    return {"runAsNonRoot": True, "runAsUser": user or _USER, "seccompProfile": {"type": "RuntimeDefault"}, **taken_over}
