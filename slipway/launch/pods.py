"""Training in pods of its own, launched and followed from a pod of the pipeline."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus

from slipway.cluster.client import Cluster, translated_errors
from slipway.cluster.pods import list_pods
from slipway.errors import ClusterError, ConfigError, TrainingFailedError
from slipway.launch.following import Following, WorkloadDeletedError
from slipway.launch.lifeline import Lease, deleted_on_signal
from slipway.launch.submitter import Submission
from slipway.launch.worker_pod import Json, WorkerNeeds, WorkerPod
from slipway.launch.workload import TRAINING_LABEL, Workload, WorkloadPlan, WorkloadStatus, name_workload, own_reference
from slipway.log import get_logger
from slipway.settings import Settings
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import is_remote
from slipway.training.job import TrainingResult
from slipway.training.work_folder import SharedJob, WorkFolder

_GONE_SECONDS = 120.0
_POLL_SECONDS = 0.5
_NUM_ATTEMPTS = 5

log = get_logger(__name__)


class PodSubmitter:
    """The submitter for every kind of workload."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_cluster: Callable[[Settings], Cluster],
        open_workload: Callable[[Cluster, str], Workload],
    ) -> None:
        self._settings = settings
        self._open_cluster = open_cluster
        self._open_workload = open_workload
        self._cluster = open_cluster(settings)
        self._namespace = self._cluster.namespace
        self._workload = open_workload(self._cluster, self._namespace)

    def train(self, submission: Submission) -> TrainingResult:
        """See `Submitter.train`."""
        folder = WorkFolder(storage=ObjectStorage(self._settings), uri=submission.work_uri)
        if not folder.has_result():
            self._share(submission, folder)
            self._run(submission, folder)
        return folder.fetch_result(submission.job)

    def _share(self, submission: Submission, folder: WorkFolder) -> None:
        """Put what the nodes need where they can reach it."""
        dataset_uri = submission.dataset_uri
        if not is_remote(dataset_uri):
            dataset_uri = folder.dataset_uri
            folder.storage.upload_folder(submission.job.dataset_dir, dataset_uri, last=("manifest.json",))
        job = submission.job
        folder.write_job(SharedJob(dataset_uri=dataset_uri, model=job.model, train=job.train, export=job.export))

    def _run(self, submission: Submission, folder: WorkFolder) -> None:
        plan = self._plan(submission, folder)
        # A client of its own for the lease and the signal handler: the main thread never holds its locks.
        lifeline = self._open_workload(self._open_cluster(self._settings), self._namespace)
        names = [plan.name]

        def see_through(plan: WorkloadPlan) -> None:
            adopted = self._adopt_or_create(plan)
            names.append(adopted)
            plan = replace(plan, name=adopted)
            with Lease(lifeline, plan.name):
                schedule_seconds = submission.job.train.schedule_seconds
                following = Following(self._cluster, self._namespace, self._workload, plan, schedule_seconds=schedule_seconds)
                following.run()

        begun = time.monotonic()
        with deleted_on_signal(lambda: lifeline.delete(names[-1])):
            try:
                see_through(plan)
            except WorkloadDeletedError as deleted:
                # By another run that shares it and was told to end, most likely. Once: who deletes it again means this run too.
                log.warning(
                    "the pods were deleted by someone else; beginning again, once", workload=names[-1], reason=str(deleted)
                )
                names.append(plan.name)
                left = plan.timeout_seconds - int(time.monotonic() - begun)
                see_through(replace(plan, meeting=uuid.uuid4().hex, timeout_seconds=max(1, left)))

    def _plan(self, submission: Submission, folder: WorkFolder) -> WorkloadPlan:
        settings, train = self._settings, submission.job.train
        if not settings.pod_name:
            raise ConfigError(
                "training in several pods is launched from a pod, which its workers take after, and KFP_POD_NAME names none. "
                "Run the pipeline on a cluster, or take train.launcher=local."
            )
        needs = WorkerNeeds.parse(settings.worker_pod)
        return WorkloadPlan(
            name=name_workload(settings.run_id, submission.training_key),
            training_key=submission.training_key,
            run_id=settings.run_id,
            work_uri=folder.uri,
            meeting=uuid.uuid4().hex,
            num_nodes=train.num_nodes,
            num_processes=train.num_gpus or train.num_processes,
            max_restarts=train.max_restarts,
            owner=own_reference(settings),
            pod=WorkerPod.from_launcher(self._read_own_pod(), needs),
            timeout_seconds=needs.timeout_seconds,
        )

    def _read_own_pod(self) -> Json:
        core = self._cluster.core
        with translated_errors(f"reading pod {self._settings.pod_name}"):
            pod = core.read_namespaced_pod(self._settings.pod_name, self._namespace)
        content: Json = core.api_client.sanitize_for_serialization(pod)
        return content

    def _adopt_or_create(self, plan: WorkloadPlan) -> str:
        """See that the training runs, once; the name of what runs it.

        Of two launchers that find nothing and both create, the one whose pods came later gives way.
        """
        created = False
        for _ in range(_NUM_ATTEMPTS):
            found = self._workload.find(plan.training_key)
            first = next((one for one in found if one.state == "running" and not one.deleting), None)
            if first is None:
                if not self._clear(found, plan):
                    continue
                log.info("launching pods", workload=plan.name, nodes=plan.num_nodes, image=plan.pod.image, work_uri=plan.work_uri)
                created = self._workload.create(plan)
            elif created and first.name == plan.name:
                return plan.name
            else:
                if created:
                    self._workload.delete(plan.name)
                if self._adopt(first, plan):
                    return first.name
        raise ClusterError(
            f"{self._workload.kind} {plan.name} could not be taken over in {_NUM_ATTEMPTS} attempts: others keep changing it. "
            f"See `kubectl get {self._workload.kind.lower()}s --namespace {self._namespace} --selector "
            f"{TRAINING_LABEL}={plan.training_key}`."
        )

    def _adopt(self, found: WorkloadStatus, plan: WorkloadPlan) -> bool:
        """Let what another launcher has begun live with this one, and be whole; False where it has changed or gone meanwhile."""
        others = [one for one in found.owners if self._is_alive(one)]
        own = [plan.owner] if plan.owner and plan.owner not in others else []
        try:
            self._workload.set_owners(found, [*others, *own])
        except ClusterError as error:
            if error.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND):
                return False
            raise
        self._workload.complete(found, plan)
        log.info("joining pods that another launcher has begun", workload=found.name, age_seconds=round(found.age_seconds))
        return True

    def _is_alive(self, owner: Json) -> bool:
        """Whether an owner still works: the pod of a terminated run stays, and would keep alive what it owns."""
        if owner["kind"] != "Pod":
            return True
        try:
            with translated_errors(f"reading pod {owner['name']}"):
                pod = self._cluster.core.read_namespaced_pod(owner["name"], self._namespace)
        except ClusterError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        alive = pod.status.phase in ("Pending", "Running") and pod.metadata.deletion_timestamp is None
        return bool(alive and pod.metadata.uid == owner["uid"])

    def _clear(self, ended: Sequence[WorkloadStatus], plan: WorkloadPlan) -> bool:
        """Remove what has failed, or is being removed, and its pods: two generations must not meet under one name.

        False where another launcher has begun the training anew meanwhile.
        """
        for one in ended:
            log.info("removing what has ended without a result", workload=one.name, state=one.state, reason=one.message)
            if not one.deleting:
                self._workload.delete(one.name, uid=one.uid)
        deadline = time.monotonic() + _GONE_SECONDS
        selector = f"{TRAINING_LABEL}={plan.training_key}"
        known = {one.uid for one in ended}
        while True:
            present = {one.uid for one in self._workload.find(plan.training_key)}
            if present - known:
                return False
            if not present and not list(list_pods(self._cluster, self._namespace, selector)):
                return True
            if time.monotonic() > deadline:
                raise TrainingFailedError(
                    f"Pods of this training, or their {self._workload.kind}, are still there {_GONE_SECONDS:g} s after their "
                    "deletion: a node that does not answer keeps them. "
                    f"See `kubectl get pods --namespace {self._namespace} --selector {selector}`."
                )
            time.sleep(_POLL_SECONDS)
