"""Running one pod to its end, as Pod Security restricted admits it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.cluster.pods import find_problem
from tests.integration.cluster import LiveCluster, Manifest

_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 45.0
"""How long a pod may be unschedulable or without its image before that counts as its end."""


class PodStartError(AssertionError):
    """A pod did not come to run."""


@dataclass(frozen=True, kw_only=True)
class PodEnd:
    """How a pod's only container ended."""

    name: str
    exit_code: int
    log: str
    """Standard output and standard error."""


def build_pod(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    service_account: str = "pipeline-runner",
    env: Mapping[str, str] | None = None,
    env_from: Sequence[Manifest] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A pod of one container that runs `command` once; user 1000, a read-only root file system, /tmp of its own."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": service_account,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": list(command),
                    "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
                    "envFrom": [dict(one) for one in env_from],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def run_pod(cluster: LiveCluster, namespace: str, pod: Manifest, *, timeout_seconds: float = 120) -> PodEnd:
    """Create `pod`, wait until it has ended, and read its log; the pod stays.

    Raises:
        PodStartError: it cannot start; the message has the cluster's own words.
        TimeoutError: it has not ended in time.
    """
    name = pod["metadata"]["name"]
    cluster.api.core.create_namespaced_pod(namespace, dict(pod))
    return await_pod(cluster, namespace, name, timeout_seconds=timeout_seconds)


def await_pod(cluster: LiveCluster, namespace: str, name: str, *, timeout_seconds: float) -> PodEnd:
    """Wait until a pod has ended; see `run_pod`."""
    begun = time.monotonic()
    while True:
        found = cluster.api.core.read_namespaced_pod(name, namespace)
        if found.status.phase in ("Succeeded", "Failed"):
            break
        problem = find_problem(found)
        waited = time.monotonic() - begun
        if problem is not None and problem.kind in ("unschedulable", "image", "configuration") and waited > _PATIENCE_SECONDS:
            raise PodStartError(f"{problem}")
        if waited > timeout_seconds:
            raise TimeoutError(
                f"pod {name} is still {found.status.phase} after {timeout_seconds:g} s ({problem or 'no problem seen'})"
            )
        time.sleep(_POLL_SECONDS)
    main = next((one for one in found.status.container_statuses or [] if one.name == "main"), None)
    ended = main.state.terminated if main is not None else None
    log = _read_log(cluster, namespace, name) if main is not None else ""
    if ended is None:
        raise PodStartError(f"pod {name} ended {found.status.reason}: {found.status.message}")
    return PodEnd(name=name, exit_code=ended.exit_code, log=log)


def _read_log(cluster: LiveCluster, namespace: str, name: str) -> str:
    # The client would parse a log that happens to be JSON.
    response = cluster.api.core.read_namespaced_pod_log(name, namespace, container="main", _preload_content=False)
    return response.data.decode(errors="replace")
