"""Pods in manifests, and what is asked of each: Pod Security `restricted`, limits, probes, a read-only root file system."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.contract.tools import Manifest

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_LEFT_ALONE = {"procMount", "seLinuxOptions", "windowsOptions", "appArmorProfile"}
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")


@dataclass(frozen=True, kw_only=True)
class Pods:
    """The pods that an object makes."""

    owner: str
    """Kind and name."""
    spec: Manifest
    labels: dict[str, str]
    ends: bool
    """Whether they end by themselves: such pods have no probes."""
    runtime: bool = False
    """A serving runtime's, whose pod-level fields come from the InferenceService."""

    @property
    def containers(self) -> list[Manifest]:
        """Init containers too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def find_pods(manifests: Sequence[Manifest]) -> Iterator[Pods]:
    """Of every kind that makes pods."""
    for one in manifests:
        kind, spec = one["kind"], one.get("spec", {})
        owner = f"{kind}/{one['metadata']['name']}"
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            template = spec["template"]
            yield Pods(owner=owner, spec=template["spec"], labels=template["metadata"]["labels"], ends=kind == "Job")
        elif kind == "CronJob":
            template = spec["jobTemplate"]["spec"]["template"]
            yield Pods(owner=owner, spec=template["spec"], labels=template["metadata"]["labels"], ends=True)
        elif kind == "Pod":
            yield Pods(owner=owner, spec=spec, labels=one["metadata"].get("labels", {}), ends=True)
        elif kind == "ServingRuntime":
            yield Pods(owner=owner, spec=spec, labels={}, ends=False, runtime=True)
        elif kind == "ClusterTrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                template = job["template"]["spec"]["template"]
                yield Pods(owner=owner, spec=template["spec"], labels=template["metadata"]["labels"], ends=True)


def find_images(manifests: Sequence[Manifest]) -> set[str]:
    """Every image that pods are made from."""
    return {container["image"] for pods in find_pods(manifests) for container in pods.containers}


def violations(pods: Pods) -> Iterator[str]:
    """What Pod Security `restricted` refuses (the standard's own list), and what our rules ask besides."""
    pod = pods.spec.get("securityContext", {})
    for field in _HOST_FIELDS:
        if pods.spec.get(field):
            yield f"{field} is set"
    if pod.get("sysctls"):
        yield "sysctls are set"
    for volume in pods.spec.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    if not pods.spec.get("serviceAccountName") and not pods.runtime and not pods.owner.startswith("ClusterTrainingRuntime/"):
        yield "no service account is named: it would be the default one"
    for container in pods.containers:
        for finding in _container_violations(container, pod):
            yield f"container {container['name']}: {finding}"


def _container_violations(container: Manifest, pod: Manifest) -> Iterator[str]:
    own = container.get("securityContext", {})
    for field in _LEFT_ALONE & (set(own) | set(pod)):
        yield f"{field} is set"
    if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
        yield "privileged, or allowPrivilegeEscalation is not false"
    if own.get("capabilities", {}).get("drop") != ["ALL"] or set(own.get("capabilities", {}).get("add", [])) - {
        "NET_BIND_SERVICE"
    }:
        yield "capabilities are not dropped"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if not own.get("runAsUser", pod.get("runAsUser")):
        yield "no numeric user"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "the root file system can be written"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort is set"


def unbounded(container: Manifest) -> set[str]:
    """Requests and limits that are missing."""
    resources = container.get("resources", {})
    return {
        f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory") if name not in resources.get(kind, {})
    }
