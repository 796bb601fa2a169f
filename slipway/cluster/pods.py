"""Why a pod does not run, in the words of the scheduler, the kubelet or the container itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from slipway.cluster.client import Cluster, translated_errors

if TYPE_CHECKING:
    from kubernetes.client import V1ContainerStatus, V1Pod

PodProblemKind = Literal["unschedulable", "image", "configuration", "crash", "failed"]

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NO_SUCH_IMAGE = ("invalidimagename", "not found", "manifest unknown", "repository does not exist", "name unknown")
_CONFIGURATION_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASH_REASONS = ("CrashLoopBackOff",)
_LOG_LINES = 20
_LOG_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class PodProblem:
    """What keeps a pod from running, or ended it."""

    kind: PodProblemKind
    pod: str
    container: str
    """"" where it is the whole pod's problem."""
    reason: str
    """The cluster's own short word, such as Unschedulable or ImagePullBackOff."""
    message: str
    """The cluster's own sentence; may be empty."""
    restarts: int = 0

    def __str__(self) -> str:
        where = f"pod {self.pod}" + (f", container {self.container}" if self.container else "")
        return f"{where}: {self.reason}" + (f": {self.message}" if self.message else "")


def names_no_image(words: str) -> bool:
    """Whether a failed pull is of an image that does not exist: waiting cannot help there, unlike for a registry that is away."""
    return any(sign in words.lower() for sign in _NO_SUCH_IMAGE)


def find_problem(pod: "V1Pod") -> PodProblem | None:
    """What is wrong with `pod`, if anything is. A problem may pass by itself: the caller decides how long to bear it."""
    name = pod.metadata.name
    status = pod.status
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return PodProblem(
                kind="unschedulable", pod=name, container="", reason=condition.reason or "", message=condition.message or ""
            )
    for container in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        problem = _find_container_problem(name, container)
        if problem is not None:
            return problem
    if status.phase == "Failed":
        return PodProblem(kind="failed", pod=name, container="", reason=status.reason or "Failed", message=status.message or "")
    return None


def _find_container_problem(pod: str, container: "V1ContainerStatus") -> PodProblem | None:
    state: Any = container.state
    restarts = container.restart_count or 0
    if state is not None and state.waiting is not None:
        kind = _classify(state.waiting.reason or "")
        if kind is not None:
            last = container.last_state.terminated if container.last_state else None
            message = state.waiting.message or ""
            if last is not None:
                message = f"{message} (last exit status {last.exit_code}, {last.reason})".strip()
            return PodProblem(
                kind=kind, pod=pod, container=container.name, reason=state.waiting.reason, message=message, restarts=restarts
            )
    if state is not None and state.terminated is not None and state.terminated.exit_code:
        ended = state.terminated
        message = ended.message or f"exit status {ended.exit_code}"
        return PodProblem(
            kind="crash", pod=pod, container=container.name, reason=ended.reason or "Error", message=message, restarts=restarts
        )
    return None


def _classify(reason: str) -> PodProblemKind | None:
    if reason in _IMAGE_REASONS:
        return "image"
    if reason in _CONFIGURATION_REASONS:
        return "configuration"
    return "crash" if reason in _CRASH_REASONS else None


def read_log_tail(cluster: Cluster, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
    """The last lines that a container wrote; "" where there are none, or no longer."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        response = cluster.core.read_namespaced_pod_log(
            *(pod, namespace), container=container, tail_lines=_LOG_LINES, previous=previous, _preload_content=False
        )  # unparsed: the client would turn a log that happens to be JSON into something else
        written: bytes = response.data
    except (ApiException, HTTPError):  # the pod is gone, the container has not begun: this is a help, not the result
        return ""
    return written.decode(errors="replace").strip()[-_LOG_CHARACTERS:]


def list_pods(cluster: Cluster, namespace: str, label_selector: str) -> Iterator["V1Pod"]:
    """The pods with these labels, the oldest first."""
    with translated_errors(f"listing pods of {namespace}"):
        pods = cluster.core.list_namespaced_pod(namespace, label_selector=label_selector).items
    yield from sorted(pods, key=lambda pod: pod.metadata.creation_timestamp)
