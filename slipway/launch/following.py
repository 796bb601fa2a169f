"""Following the pods of a training to its end, or until it cannot come to one."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from slipway.cluster.client import Cluster
from slipway.cluster.events import list_warnings
from slipway.cluster.pods import list_pods
from slipway.errors import ClusterError, TrainingFailedError
from slipway.launch.diagnosis import Patience, describe_failure, find_refusal, find_remedy
from slipway.launch.rank_log import RankLog
from slipway.launch.workload import Workload, WorkloadPlan
from slipway.log import get_logger

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

_POLL_SECONDS = 1.0
_API_SECONDS = 90.0
"""An API server that is away for longer is an error here; the pods go on until their lease ends, a retried step finds them."""
_NO_POD_SECONDS = 10.0
_LOG_SECONDS = 5.0
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"

log = get_logger(__name__)


class WorkloadDeletedError(TrainingFailedError):
    """The workload was deleted by somebody else while it was followed."""


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
            raise TrainingFailedError(describe_failure(self._cluster, self._namespace, self._workload, self._plan, status, pods))
        self._check_progress(pods)
        return False

    def _check_progress(self, pods: Sequence["V1Pod"]) -> None:
        self._saw_pod = self._saw_pod or bool(pods)
        waited = time.monotonic() - self._begun
        if not self._saw_pod and waited > _NO_POD_SECONDS:
            self._give_up(
                f"{self._workload.kind} {self._plan.name} has made no pod in {waited:.0f} s: "
                f"{self._read_refusal() or 'the reason stands in its events'}. A quota of the namespace, or its Pod Security, is "
                f"a likely one; see `kubectl get events --namespace {self._namespace}`."
            )
        self._check_number(pods)
        obstacle = self._patience.find_obstacle(pods, time.monotonic())
        if obstacle is not None:
            self._give_up(f"{obstacle}. {find_remedy(obstacle)}")
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
        """Why there was no further pod since the last one, if this service account may read it.

        The Job's events tell of pods that were refused; those of what the Job is made from tell why there is none.
        """
        name = self._plan.name
        try:
            events = list_warnings(self._cluster, self._namespace, about=self._workload.job_name(name))
            events = events or list_warnings(self._cluster, self._namespace, about=name)
        except ClusterError:  # a help, not the result
            return ""
        return find_refusal(events, self._last_made)

    def _give_up(self, message: str) -> NoReturn:
        self._workload.delete(self._plan.name)
        raise TrainingFailedError(message)


def _last_made(pods: Iterable["V1Pod"]) -> datetime | None:
    return max((pod.metadata.creation_timestamp for pod in pods if pod.metadata.creation_timestamp), default=None)


def _may_pass(error: ClusterError) -> bool:
    """Whether asking again may help: not where the server has answered that it will not."""
    return error.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
