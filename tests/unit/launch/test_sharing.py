"""What two launchers of one training do to each other's Job, against an API server's storage; nothing runs the pods."""

import copy
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from slipway.config import ModelConfig, TrainConfig
from slipway.errors import TrainingFailedError
from slipway.launch.following import Following, WorkloadDeletedError
from slipway.launch.indexed_job import IndexedJobs
from slipway.launch.pods import PodSubmitter
from slipway.launch.submitter import Submission
from slipway.launch.train_job import NODE, TrainJobs
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.training.job import TrainingJob, TrainingResult
from slipway.training.work_folder import WorkFolder
from tests.kube_api.server import KubeApi, serve_kube_api
from tests.unit.launch.conftest import KEY, LAUNCHER, RUN_ID

SERVICES = "/api/v1/namespaces/ns/services"
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
PODS = "/api/v1/namespaces/ns/pods"
EVENTS = "/api/v1/namespaces/ns/events"
REFUSAL = "exceeded quota: tight, requested: pods=1, used: pods=2, limited: pods=2"


@pytest.fixture
def served():
    with serve_kube_api() as served:
        yield served


def test_a_job_whose_launcher_was_killed_before_it_made_the_service_gets_one_from_who_takes_it_over(served, make_plan):
    api, cluster = served
    jobs, plan = IndexedJobs(cluster, "ns"), make_plan()
    jobs.create(plan)
    service = api.objects.pop(f"{SERVICES}/{plan.name}")
    (found,) = jobs.find(plan.training_key)
    jobs.complete(found, make_plan(name="train-of-another-run"))
    made = api.objects[f"{SERVICES}/{plan.name}"]
    assert made["spec"] == service["spec"]
    assert made["metadata"]["ownerReferences"] == service["metadata"]["ownerReferences"]
    jobs.complete(found, plan)  # there already: nothing to do, and nothing to wait for


def test_who_creates_a_job_takes_the_service_that_another_has_made_for_it_in_between(served, make_plan):
    api, cluster = served
    jobs, plan = IndexedJobs(cluster, "ns"), make_plan()

    def come_first(method: str, path: str) -> None:
        if (method, path) == ("POST", SERVICES):
            api.before_write = lambda *_: None
            (found,) = jobs.find(plan.training_key)
            jobs.complete(found, plan)

    api.before_write = come_first
    assert jobs.create(plan)
    assert api.requests.count(f"POST {SERVICES}") == 2
    assert f"{JOBS}/{plan.name}" in api.objects


def test_the_service_of_an_earlier_job_of_the_same_name_is_waited_for_to_go(served, make_plan):
    api, cluster = served
    jobs, plan = IndexedJobs(cluster, "ns"), make_plan()
    api.put(
        f"{SERVICES}/{plan.name}",
        metadata={"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "old"}]},
    )
    collector = threading.Timer(1.0, api.objects.pop, [f"{SERVICES}/{plan.name}"])
    collector.start()
    assert jobs.create(plan)
    collector.join()
    owner = api.objects[f"{SERVICES}/{plan.name}"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == api.objects[f"{JOBS}/{plan.name}"]["metadata"]["uid"]


def test_a_job_that_failed_is_not_deleted_in_the_place_of_the_one_that_has_followed_it(served, make_plan):
    api, cluster = served
    jobs, plan = IndexedJobs(cluster, "ns"), make_plan()
    jobs.create(plan)
    (failed,) = jobs.find(plan.training_key)
    api.remove(f"{JOBS}/{plan.name}")
    jobs.create(plan)
    jobs.delete(plan.name, uid=failed.uid)
    assert f"{JOBS}/{plan.name}" in api.objects
    jobs.delete(plan.name)
    assert f"{JOBS}/{plan.name}" not in api.objects


def follow(served, make_plan, *phases: str, **changes) -> Following:
    """A Job with pods of these phases, about to be followed by a launcher that bears nothing."""
    api, cluster = served
    jobs, plan = IndexedJobs(cluster, "ns"), make_plan(timeout_seconds=30, **changes)
    jobs.create(plan)
    for number, phase in enumerate(phases):
        labels = {"batch.kubernetes.io/job-name": plan.name, **plan.labels}
        api.put(f"{PODS}/{plan.name}-{number}", metadata={"labels": labels}, status={"phase": phase})
    return Following(cluster, "ns", jobs, plan, schedule_seconds=0)


def refuse_a_pod(served, job: str) -> None:
    served[0].put(f"{EVENTS}/refused", involvedObject={"name": job}, type="Warning", reason="FailedCreate", message=REFUSAL)


def test_a_job_of_which_a_quota_refuses_some_pods_is_ended_with_the_quotas_words(served, make_plan):
    following = follow(served, make_plan, "Running", "Running", num_nodes=3)
    refuse_a_pod(served, make_plan().name)
    with pytest.raises(TrainingFailedError, match=r"has only 2 of 3 pods: exceeded quota: tight.*Fewer nodes or GPUs"):
        following.run()
    assert not [path for path in served[0].objects if path.startswith(JOBS)], "its pods would wait for the one that is refused"


def test_the_pods_of_a_train_job_are_refused_to_the_job_that_jobset_makes_for_it(served, make_plan):
    api, cluster = served
    jobs, plan = TrainJobs(cluster, "ns"), make_plan(num_nodes=2, timeout_seconds=30)
    jobs.create(plan)
    labels = {"jobset.sigs.k8s.io/jobset-name": plan.name, "jobset.sigs.k8s.io/replicatedjob-name": NODE}
    api.put(f"{PODS}/{plan.name}-{NODE}-0-0-x", metadata={"labels": labels}, status={"phase": "Running"})
    refuse_a_pod(served, f"{plan.name}-{NODE}-0")
    with pytest.raises(TrainingFailedError, match=r"has only 1 of 2 pods: exceeded quota: tight"):
        Following(cluster, "ns", jobs, plan, schedule_seconds=0).run()


def test_a_train_job_whose_job_is_refused_itself_is_ended_with_the_refusals_words(served, make_plan, monkeypatch):
    monkeypatch.setattr("slipway.launch.following._NO_POD_SECONDS", 0.5)
    jobs, plan = TrainJobs(served[1], "ns"), make_plan(num_nodes=2, timeout_seconds=30)
    jobs.create(plan)
    refuse_a_pod(served, plan.name)
    with pytest.raises(TrainingFailedError, match=r"has made no pod in .*: exceeded quota: tight"):
        Following(served[1], "ns", jobs, plan, schedule_seconds=0).run()


@pytest.mark.parametrize(
    ("phases", "refused"),
    [(("Running", "Running", "Running"), True), (("Running", "Running"), False)],
    ids=["all pods are there", "a pod is on its way"],
)
def test_a_job_that_lacks_no_pod_or_whose_pod_nobody_refuses_is_left_to_go_on(served, make_plan, phases, refused):
    api, _ = served
    following = follow(served, make_plan, *phases, num_nodes=3)
    if refused:
        refuse_a_pod(served, make_plan().name)
    job = f"{JOBS}/{make_plan().name}"
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    end = threading.Timer(2.5, lambda: api.put(job, **{**api.objects[job], "status": done}))
    end.start()
    following.run()
    end.join()


def test_a_job_that_somebody_else_deleted_is_told_from_one_that_failed(served, make_plan):
    api, _ = served
    following = follow(served, make_plan, "Running", "Running")
    api.remove(f"{JOBS}/{make_plan().name}")
    with pytest.raises(WorkloadDeletedError, match="was deleted while it trained"):
        following.run()


class Controller(threading.Thread):
    """Deletes the first `num_deleted` Jobs that it sees, as another launcher's end does, and completes the one after."""

    def __init__(self, api: KubeApi, folder: WorkFolder, tmp_path: Path, num_deleted: int) -> None:
        super().__init__(daemon=True)
        self._api, self._folder, self._tmp_path, self._num_deleted = api, folder, tmp_path, num_deleted
        self.commands: list[list[str]] = []

    def run(self) -> None:
        deadline = time.monotonic() + 60
        seen: set[str] = set()
        while time.monotonic() < deadline:
            time.sleep(0.05)
            for path, job in list(self._api.objects.items()):
                if path.startswith(JOBS) and job["metadata"]["uid"] not in seen:
                    seen.add(job["metadata"]["uid"])
                    self.commands.append(job["spec"]["template"]["spec"]["containers"][0]["command"])
                    time.sleep(0.5)
                    if len(seen) > self._num_deleted:
                        self._complete(path)
                        return
                    self._api.remove(path)

    def _complete(self, path: str) -> None:
        job = self._folder.read_job().place(self._tmp_path / "node")
        job.bundle_dir.mkdir(parents=True)
        job.work_dir.mkdir(parents=True)
        (job.bundle_dir / "bundle.json").write_text("{}")
        for name in ("history.json", "environment.json"):
            (job.work_dir / name).write_text("{}")
        result = dict.fromkeys(TrainingResult.__dataclass_fields__, 1) | {"bundle_dir": job.bundle_dir, "bundle_id": "b"}
        TrainingResult(**result).write(job.work_dir)
        self._folder.publish_result(job)
        done = {"conditions": [{"type": "Complete", "status": "True"}]}
        self._api.put(path, **{**self._api.objects[path], "status": done})


@pytest.fixture
def submit(served, tmp_path):
    """Trains through a launcher whose Job is deleted so many times; what the pods were told to run, each time."""
    api, cluster = served
    launcher = copy.deepcopy(LAUNCHER)
    api.put(f"{PODS}/launcher", **{**launcher, "status": {"phase": "Running"}})

    def train(num_deleted: int) -> list[list[str]]:
        settings = load_settings({"KFP_POD_NAME": "launcher", "KFP_POD_UID": "1-2-3", "SLIPWAY_RUN_ID": RUN_ID})
        folder = WorkFolder(storage=ObjectStorage(settings), uri=str(tmp_path / "shared"))
        (tmp_path / "dataset").mkdir()
        (tmp_path / "dataset" / "manifest.json").write_text("{}")
        job = TrainingJob(
            dataset_dir=tmp_path / "dataset",
            bundle_dir=tmp_path / "own" / "bundle",
            work_dir=tmp_path / "own" / "work",
            model=ModelConfig(),
            train=TrainConfig(num_nodes=2),
        )
        submitter = PodSubmitter(settings, open_cluster=lambda _: cluster, open_workload=IndexedJobs)
        controller = Controller(api, folder, tmp_path, num_deleted)
        controller.start()
        try:
            submitter.train(Submission(job=job, training_key=KEY, work_uri=folder.uri))
        finally:
            controller.join(5)
        return controller.commands

    return train


def test_a_launcher_whose_job_is_deleted_by_another_begins_again_with_pods_that_do_not_meet_the_earlier_ones(submit):
    with capture_logs() as events:
        first, second = submit(1)
    assert first[first.index("--meeting") + 1] != second[second.index("--meeting") + 1]
    assert "the pods were deleted by someone else; beginning again, once" in [entry["event"] for entry in events]


def test_a_launcher_whose_job_is_deleted_again_takes_it_for_meant(submit):
    with pytest.raises(TrainingFailedError, match="was deleted while it trained"):
        submit(2)
