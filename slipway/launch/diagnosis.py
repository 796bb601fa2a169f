"""What keeps the pods of a training from running, and why it failed: in the words of the cluster, or of its nodes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from slipway.cluster.client import Cluster
from slipway.cluster.events import last_seen
from slipway.cluster.pods import PodProblem, find_problem, names_no_image, read_log_tail
from slipway.launch.workload import Workload, WorkloadPlan, WorkloadStatus
from slipway.training.node_failure import FAILED_FOR_GOOD, NodeFailure

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Event, V1Pod

_PULL_SECONDS = 1800.0
_DEADLINE = "DeadlineExceeded"


@dataclass
class Patience:
    """How long each pod has been kept from running, and when that is too long."""

    schedule_seconds: float
    _since: dict[str, float] = field(default_factory=dict)

    def find_obstacle(self, pods: Iterable["V1Pod"], now: float) -> PodProblem | None:
        """A problem that will not pass by itself, or has not within its time; `now` in seconds of a steady clock."""
        waiting = {
            pod.metadata.name: pod for pod in pods if pod.status.phase == "Pending" and not pod.metadata.deletion_timestamp
        }
        self._since = {name: self._since.get(name, now) for name in waiting}
        for name, pod in waiting.items():
            waited = now - self._since[name]
            problem = find_problem(pod)
            if problem is None and waited > max(_PULL_SECONDS, self.schedule_seconds):
                message = f"its container has not begun after {waited:.0f} s; see `kubectl describe pod {name}`"
                problem = PodProblem(kind="configuration", pod=name, container="", reason="ContainerCreating", message=message)
            if problem is not None and (waited >= self.schedule_seconds or _is_hopeless(problem)):
                return problem
        return None


def _is_hopeless(problem: PodProblem) -> bool:
    """Whether waiting cannot help: an image that does not exist, unlike a registry that does not answer."""
    return problem.kind == "image" and names_no_image(f"{problem.reason} {problem.message}")


def find_remedy(problem: PodProblem) -> str:
    """What helps against an obstacle."""
    if problem.kind == "image":
        return "Build and push the image (make images), or correct its name in the compiled pipeline (--registry, --image-tag)."
    if problem.kind == "configuration":
        return (
            "Create what is missing, or correct its name; `make secrets` and `kubectl apply -k manifests` make what tasks need."
        )
    if problem.kind == "unschedulable":
        return (
            "Ask for less (train.num_gpus, train.num_nodes, the task's processors and memory), free or add nodes, or raise "
            "train.schedule_seconds where nodes are added on demand."
        )
    return "See the pod's log and `kubectl describe pod`."


def find_refusal(events: Iterable["CoreV1Event"], last_made: datetime | None) -> str:
    """The last event's message, unless a pod was made since: what an earlier event refused was let through then.

    Both times are the control plane's, so that this machine's clock does not matter.
    """
    times = [(seen, str(one.message)) for one in events if (seen := last_seen(one)) is not None]
    seen, message = max(times, default=(None, ""))
    return message if seen is None or last_made is None or seen >= last_made else ""


def describe_failure(
    cluster: Cluster,
    namespace: str,
    workload: Workload,
    plan: WorkloadPlan,
    status: WorkloadStatus,
    pods: Sequence["V1Pod"],
) -> str:
    """Why a training failed: the first of its nodes' own words, else how their containers ended, else the cluster's."""
    failures = _read_failures(pods, workload.container)
    for_good = [failure for code, failure in failures if code == FAILED_FOR_GOOD]
    if for_good:
        return min(for_good, key=lambda failure: failure.at).message
    if failures:  # each was worth another start, until there were too many
        return max((failure for _, failure in failures), key=lambda failure: failure.at).message
    if _DEADLINE in status.message and workload.lease_seconds:
        return (
            f"{workload.kind} {plan.name} ended because its deadline was not renewed for {workload.lease_seconds:g} s: the API "
            f"server, or this launcher, was away. Started again, training goes on from the last checkpoint in {plan.work_uri}."
        )
    ended = [problem for pod in pods if (problem := find_problem(pod)) is not None and problem.kind in ("crash", "failed")]
    if not ended:
        return f"{workload.kind} {plan.name} failed: {status.message}"
    last = ended[-1]
    remedy = "Give its nodes more memory, or train with a smaller train.batch_size." if last.reason == "OOMKilled" else ""
    tail = read_log_tail(cluster, namespace, last.pod, workload.container)
    return f"{workload.kind} {plan.name} failed: {last} ({status.message}). {remedy}\n{tail}".strip()


def _read_failures(pods: Sequence["V1Pod"], container: str) -> list[tuple[int, NodeFailure]]:
    """What nodes left as their last words, with their exit status."""
    containers = [one for pod in pods for one in pod.status.container_statuses or [] if one.name == container]
    ends = [one.state.terminated for one in containers if one.state.terminated is not None]
    said = [(int(end.exit_code), NodeFailure.parse(end.message or "")) for end in ends]
    return [(code, failure) for code, failure in said if failure is not None]
