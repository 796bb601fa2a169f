"""Following the pods of a training to its end, and saying in the cluster's own words what keeps them from it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from slipway.cluster.client import Cluster, translated_errors
from slipway.cluster.pods import PodProblem, find_problem, list_pods, names_no_image, read_log_tail
from slipway.errors import ClusterError, TrainingFailedError
from slipway.launch.rank_log import RankLog
from slipway.launch.workload import Workload, WorkloadPlan, WorkloadStatus
from slipway.log import get_logger
from slipway.training.node import FAILED_FOR_GOOD, NodeFailure

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Event, V1Pod

_POLL_SECONDS = 1.0
_API_SECONDS = 90.0
"""An API server that is away for longer is an error here; the pods go on until their lease ends, a retried step finds them."""
_NO_POD_SECONDS = 10.0
_PULL_SECONDS = 1800.0
_LOG_SECONDS = 5.0
_DEADLINE = "DeadlineExceeded"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"

log = get_logger(__name__)


class WorkloadDeletedError(TrainingFailedError):
    """The workload was deleted by somebody else while it was followed."""


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


class Following:
    """A workload being followed."""

    def __init__(
        self, cluster: Cluster, namespace: str, workload: Workload, plan: WorkloadPlan, *, schedule_seconds: float
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._workload = workload
        self._plan = plan
        self._patience = Patience(schedule_seconds)
        self._begun = time.monotonic()
        self._heard = self._begun
        self._saw_pod = False
        self._complete_at = self._begun
        self._last_made: datetime | None = None

    def run(self) -> None:
        """Return when node 0 has ended well. Its log goes to standard error meanwhile.

        Raises:
            WorkloadDeletedError: somebody deleted it.
            TrainingFailedError: the training failed, its pods cannot run, or it took too long.
            ClusterError: the API server is away.
        """
        with RankLog(self._cluster, self._namespace, self._workload.container) as rank_log:
            while not self._look(rank_log):
                time.sleep(_POLL_SECONDS)
            rank_log.drain(_LOG_SECONDS)

    def _look(self, rank_log: RankLog) -> bool:
        """One look at the workload and its pods; whether it has ended well."""
        try:
            status = self._workload.read(self._plan.name)
            pods = list(list_pods(self._cluster, self._namespace, self._workload.pod_selector(self._plan.name)))
        except ClusterError as error:
            if not _may_pass(error) or time.monotonic() - self._heard > _API_SECONDS:
                raise
            log.warning("the API server does not answer; looking again", error=str(error))
            return False
        self._heard = time.monotonic()
        for pod in pods:
            if pod.metadata.labels.get(_INDEX_LABEL) == "0":
                rank_log.follow(pod)
        if status is not None and status.state == "succeeded":
            return True
        if status is None or status.deleting:
            raise WorkloadDeletedError(
                f"{self._workload.kind} {self._plan.name} was deleted while it trained. Started again, training goes on from the "
                f"last checkpoint in {self._plan.work_uri}."
            )
        if status.state == "failed":
            rank_log.drain(_LOG_SECONDS)
            self._fail(describe_failure(self._cluster, self._namespace, self._workload, self._plan, status, pods))
        self._check_progress(pods)
        return False

    def _check_progress(self, pods: Sequence["V1Pod"]) -> None:
        self._saw_pod = self._saw_pod or bool(pods)
        waited = time.monotonic() - self._begun
        if not self._saw_pod and waited > _NO_POD_SECONDS:
            self._give_up(
                f"{self._workload.kind} {self._plan.name} has made no pod in {waited:.0f} s: "
                f"{self._read_refusal() or 'the reason stands in its events'}. A quota of the namespace, or its Pod Security, is "
                f"a likely one; see `kubectl describe job {self._plan.name} --namespace {self._namespace}`."
            )
        self._check_number(pods)
        obstacle = self._patience.find_obstacle(pods, time.monotonic())
        if obstacle is not None:
            self._give_up(f"{obstacle}. {_find_remedy(obstacle)}")
        if waited > self._plan.timeout_seconds:
            self._give_up(
                f"the training has not ended within {self._plan.timeout_seconds} s and was stopped. Started again, it goes on "
                f"from the last checkpoint in {self._plan.work_uri}; fewer epochs or more nodes take less time."
            )

    def _check_number(self, pods: Sequence["V1Pod"]) -> None:
        """Give up where the cluster refuses some of the pods: those that run would wait for them."""
        alive = [pod for pod in pods if pod.status.phase in ("Pending", "Running") and not pod.metadata.deletion_timestamp]
        now = time.monotonic()
        self._last_made = max(filter(None, (self._last_made, _last_made(pods))), default=None)
        if len(alive) >= self._plan.num_nodes:
            self._complete_at = now
        elif alive and now - self._complete_at > self._patience.schedule_seconds and (refusal := self._read_refusal()):
            self._give_up(
                f"{self._workload.kind} {self._plan.name} has only {len(alive)} of {self._plan.num_nodes} pods: {refusal} "
                "Fewer nodes or GPUs (train.num_nodes, train.num_gpus) may fit; a larger quota of the namespace does."
            )

    def _read_refusal(self) -> str:
        """Why the Job controller could make no pod since the last one it made, if this service account may read it."""
        selector = f"involvedObject.name={self._plan.name},type=Warning"
        try:
            with translated_errors(f"listing events of {self._namespace}"):
                events = self._cluster.core.list_namespaced_event(self._namespace, field_selector=selector).items
        except ClusterError:  # a help, not the result
            return ""
        return find_refusal(events, self._last_made)

    def _give_up(self, message: str) -> NoReturn:
        self._workload.delete(self._plan.name)
        self._fail(message)

    @staticmethod
    def _fail(message: str) -> NoReturn:
        raise TrainingFailedError(message)


def find_refusal(events: Iterable["CoreV1Event"], last_made: datetime | None) -> str:
    """The last event's message, unless a pod was made since: what an earlier event refused was let through then.

    Both times are the control plane's, so that this machine's clock does not matter.
    """
    times = [(seen, str(one.message)) for one in events if (seen := _read_time(one)) is not None]
    seen, message = max(times, default=(None, ""))
    return message if seen is None or last_made is None or seen >= last_made else ""


def _read_time(event: "CoreV1Event") -> datetime | None:
    """When it was last seen; which field says so depends on who wrote it."""
    last = event.series.last_observed_time if event.series else None
    seen: datetime | None = last or event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return seen


def _last_made(pods: Iterable["V1Pod"]) -> datetime | None:
    return max((pod.metadata.creation_timestamp for pod in pods if pod.metadata.creation_timestamp), default=None)


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


def _may_pass(error: ClusterError) -> bool:
    """Whether asking again may help: not where the server has answered that it will not."""
    return error.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _find_remedy(problem: PodProblem) -> str:
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
