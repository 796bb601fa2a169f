"""Training over several pods: the same result, whoever is lost on the way, and nothing left behind."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import V1Job

from slipway.config import TrainConfig
from slipway.launch.local import launch_training
from slipway.launch.worker_pod import WorkerNeeds
from slipway.training.job import TrainingJob
from tests.integration.cluster import wait_until
from tests.integration.kfp_run import built_images, run_training
from tests.integration.tenants import Tenant
from tests.integration.training import LEASE_SECONDS, MODEL, SMALL, Training, parse_events, prepare_digits, read_curve

FIGURES = ("train_loss", "validation_loss", "validation_score")
TOLERANCE = 1e-5
"""Sums of two processes' floats have one order, wherever they run; processors differ in the last digits of one."""
LONG = {"epochs": 40}
ENDLESS = {"epochs": 5000}
_STUCK = {"name": "main", "command": ["true"], "resources": SMALL, "securityContext": {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}}  # fmt: skip

MakeTraining = Callable[..., Training]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def make_training(namespace: Tenant, images: Mapping[str, str], digits: Path) -> MakeTraining:
    """A training on the digits in the test's namespace."""
    uri = f"{namespace.state_uri}/data/digits"
    namespace.platform.storage.upload_folder(digits, uri)

    def make(needs: WorkerNeeds | None = None, **train: Any) -> Training:
        config = TrainConfig(**{"num_nodes": 2, "batch_size": 64, "epochs": 5, "schedule_seconds": 20, **train})
        return Training(
            tenant=namespace,
            image=built_images(images).trainer,
            key="0123456789abcdef" * 2,
            dataset_uri=uri,
            train=config,
            needs=needs or WorkerNeeds(resources=SMALL),
        )

    return make


def assert_same_curve(curve: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [entry["epoch"] for entry in curve] == [entry["epoch"] for entry in expected]
    for name in FIGURES:
        assert [entry[name] for entry in curve] == pytest.approx([entry[name] for entry in expected], abs=TOLERANCE), name


def test_the_pipeline_trains_over_two_pods_to_the_loss_curve_of_two_local_processes(
    namespace: Tenant, images: Mapping[str, str], tmp_path: Path
) -> None:
    end = run_training(namespace, images, tmp_path, "train.num_nodes=2", "train.epochs=6", "deploy.slo_seconds=0")
    assert end.tasks["train"].state == "SUCCEEDED", end.explain()
    epochs = [one["epoch"] for one in parse_events(end.tasks["train"].log) if one["event"] == "epoch"]
    assert epochs == [1, 2, 3, 4, 5, 6], "node 0's log runs through the step's"

    storage = namespace.platform.storage
    storage.download_folder(end.tasks["preprocess"].artifacts["dataset"].uri, tmp_path / "dataset")
    together = json.loads(storage.read_bytes(f"{end.tasks['train'].artifacts['training'].uri}/history.json"))["epochs"]
    local = TrainingJob(
        dataset_dir=tmp_path / "dataset",
        bundle_dir=tmp_path / "bundle",
        work_dir=tmp_path / "work",
        model=type(MODEL)(),
        train=TrainConfig(num_processes=2, epochs=6),
    )
    launch_training(local)
    assert_same_curve(together, read_curve(local.work_dir))

    (job,) = namespace.cluster.api.batch.list_namespaced_job(namespace.name).items
    assert job.metadata.name.startswith(f"train-{end.run_id}-")
    assert not storage.list_files(f"{namespace.state_uri}/work/train"), "what was unfinished is removed once it is finished"


@pytest.mark.parametrize("index", [1, 0])
def test_a_worker_pod_that_is_deleted_mid_run_comes_back_and_training_goes_on(
    make_training: MakeTraining, index: int, tmp_path: Path
) -> None:
    training = make_training(**LONG)
    training.launch("launcher")
    training.await_event("launcher", "epoch", epoch=5)
    lost = training.find_worker(index)
    training.delete_pod(lost, grace_seconds=0 if index else None)
    end = training.await_end("launcher")
    assert end.exit_code == 0, end.log
    events = parse_events(end.log)
    begun = [one["finished_epochs"] for one in events if one["event"] == "training"]
    assert begun[0] == 0
    assert begun[-1] >= 4, "from the last checkpoint, not from the start"
    curve = training.fetch_curve(tmp_path)
    assert [entry["epoch"] for entry in curve] == list(range(1, 41))
    assert lost not in {pod.metadata.name for pod in training.find_workers()}


GPU = {"requests": {**SMALL["requests"], "nvidia.com/gpu": "1"}, "limits": {**SMALL["limits"], "nvidia.com/gpu": "1"}}
HUGE = {"requests": {"cpu": "100m", "memory": "900Ti"}, "limits": {"cpu": "1", "memory": "900Ti"}}


@pytest.mark.parametrize(
    ("resources", "words"),
    [(GPU, "Insufficient nvidia.com/gpu"), (HUGE, "Insufficient memory")],
    ids=["no GPU", "too much memory"],
)
def test_pods_that_no_node_can_take_end_the_step_in_time_with_the_schedulers_words(
    make_training: MakeTraining, resources: dict[str, Any], words: str
) -> None:
    training = make_training(WorkerNeeds(resources=resources))
    lift_quotas(training.tenant)
    training.launch("launcher")
    end = training.await_end("launcher", timeout_seconds=60)
    assert end.exit_code == 1
    message = parse_events(end.log)[-1]["message"]
    assert words in message
    assert "train.schedule_seconds" in message
    assert training.find_job() is None, "nothing waits for a node that will not come"


def lift_quotas(tenant: Tenant) -> None:
    """Let the scheduler be the one that refuses."""
    for quota in tenant.cluster.list("resourcequota", tenant.name):
        tenant.cluster.kubectl("delete", "resourcequota", quota["metadata"]["name"], f"--namespace={tenant.name}")


def test_an_image_that_is_not_there_ends_the_step_at_once_with_its_name(make_training: MakeTraining) -> None:
    training = make_training()
    missing = "ghcr.io/slipway/slipway-trainer-python:never-built"
    training.launch("launcher", containers=[{**_STUCK, "image": missing}])
    failed = wait_until(
        "the launcher's failure",
        lambda: next((one for one in training.read_events("launcher", container="launcher") if one["event"] == "failed"), None),
        timeout_seconds=60,
    )
    assert missing in failed["message"]
    assert "make images" in failed["message"]
    assert training.find_job() is None


def test_pods_that_a_quota_refuses_end_the_step_with_the_quotas_words(make_training: MakeTraining) -> None:
    training = make_training()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "1"}}}
    training.tenant.cluster.apply(quota, namespace=training.tenant.name)
    training.launch("launcher")
    end = training.await_end("launcher", timeout_seconds=60)
    assert end.exit_code == 1
    assert "exceeded quota: tight" in parse_events(end.log)[-1]["message"]


def test_a_training_of_which_a_quota_refuses_one_pod_ends_instead_of_waiting_for_it(make_training: MakeTraining) -> None:
    training = make_training()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "2"}}}
    training.tenant.cluster.apply(quota, namespace=training.tenant.name)
    training.launch("launcher")
    end = training.await_end("launcher", timeout_seconds=90)
    assert end.exit_code == 1
    message = parse_events(end.log)[-1]["message"]
    assert "has only 1 of 2 pods" in message
    assert "exceeded quota: tight" in message
    assert training.find_job() is None


def test_a_failure_that_no_restart_mends_is_the_steps_own_message(make_training: MakeTraining) -> None:
    training = make_training(num_gpus=1)
    training.launch("launcher")
    end = training.await_end("launcher")
    assert end.exit_code == 1
    events = parse_events(end.log)
    assert events[-1]["message"].startswith("train.num_gpus is 1")
    assert len([one for one in events if one["event"] == "starting torchrun"]) == 1, "not tried again"


def test_sigterm_to_the_launcher_deletes_the_job_at_once_though_its_pod_stays(make_training: MakeTraining) -> None:
    training = make_training(**ENDLESS)
    training.launch("launcher")
    training.await_event("launcher", "epoch")
    training.signal("launcher", "SIGTERM")
    assert training.await_job_gone(timeout_seconds=10) < 5
    assert training.await_end("launcher").exit_code == 128 + 15
    assert training.tenant.cluster.get("pod", "launcher", training.tenant.name)["status"]["phase"] == "Failed"
    wait_until("the workers' end", lambda: not training.find_workers(), timeout_seconds=60)
    services = training.tenant.cluster.list("services", training.tenant.name)
    assert not [one for one in services if one["metadata"]["name"].startswith("train-")]


def test_a_launcher_that_is_lost_with_its_node_takes_the_job_along(make_training: MakeTraining) -> None:
    training = make_training(**ENDLESS)
    training.launch("launcher")
    training.await_event("launcher", "epoch")
    training.delete_pod("launcher", grace_seconds=0)
    training.await_job_gone(timeout_seconds=60)
    wait_until("the workers' end", lambda: not training.find_workers(), timeout_seconds=60)


def test_a_launcher_that_dies_and_stays_leaves_a_job_that_ends_with_its_lease(make_training: MakeTraining) -> None:
    training = make_training(**ENDLESS)
    training.launch("launcher")
    training.await_event("launcher", "epoch")
    deadlines = []
    for _ in range(2):
        job = training.find_job()
        assert job is not None
        deadlines.append(job.spec.active_deadline_seconds)
        time.sleep(LEASE_SECONDS / 2)
    assert deadlines[1] > deadlines[0], "renewed while the launcher lives"
    training.signal("launcher", "SIGUSR1")
    assert training.await_end("launcher").exit_code == 9

    def has_ended() -> bool:
        job = training.find_job()
        conditions = (job.status.conditions or []) if job is not None else []
        return any(one.type == "Failed" and one.reason == "DeadlineExceeded" for one in conditions)

    wait_until("the lease's end", has_ended, timeout_seconds=LEASE_SECONDS + 40)
    wait_until("the workers' end", lambda: not training.find_workers(), timeout_seconds=60)


def lose_launcher(training: Training) -> V1Job:
    """Launch, and let the launcher die at the fifth epoch; the Job that runs on without it."""
    training.launch("first")
    training.await_event("first", "epoch", epoch=5)
    training.signal("first", "SIGUSR1")
    training.await_end("first")
    job = training.find_job()
    assert job is not None
    return job


def test_a_retried_launcher_takes_over_the_job_that_the_first_one_left_and_later_its_result(
    make_training: MakeTraining, tmp_path: Path
) -> None:
    training = make_training(epochs=120)
    left = lose_launcher(training)
    training.launch("second")
    training.await_event("second", "joining pods that another launcher has begun")
    taken = training.find_job()
    assert taken is not None
    assert taken.metadata.uid == left.metadata.uid
    assert [owner.name for owner in taken.metadata.owner_references] == ["second"]
    end = training.await_end("second")
    assert end.exit_code == 0, end.log
    begun = [one for one in parse_events(end.log) if one["event"] == "training"]
    assert [one["finished_epochs"] for one in begun] == [0], "the pods were not started anew"
    assert len(training.fetch_curve(tmp_path)) == 120
    training.launch("third")
    last = training.await_end("third")
    assert last.exit_code == 0, last.log
    assert parse_events(last.log) == parse_events(end.log)[-1:], "after the end the same result, and nothing is started"


def test_a_retried_launcher_replaces_a_job_that_failed_and_goes_on_from_its_checkpoint(
    make_training: MakeTraining, tmp_path: Path
) -> None:
    training = make_training(max_restarts=0, **LONG)
    training.launch("first")
    training.await_event("first", "epoch", epoch=5)
    training.delete_pod(training.find_worker(1), grace_seconds=0)
    assert training.await_end("first").exit_code == 1
    training.launch("second")
    end = training.await_end("second")
    assert end.exit_code == 0, end.log
    begun = [one["finished_epochs"] for one in parse_events(end.log) if one["event"] == "training"]
    assert len(begun) == 1
    assert begun[0] >= 4
    assert len(training.fetch_curve(tmp_path)) == 40


def test_two_runs_that_ask_for_one_training_at_once_share_its_pods(make_training: MakeTraining) -> None:
    training = make_training()
    training.launch("one", run_id="run-1")
    training.launch("other", run_id="run-2")
    ends = [training.await_end(name) for name in ("one", "other")]
    assert [end.exit_code for end in ends] == [0, 0], [end.log for end in ends]
    (result, same) = [parse_events(end.log)[-1] for end in ends]
    assert result == same
    (job,) = training.tenant.cluster.api.batch.list_namespaced_job(training.tenant.name).items
    assert {owner.name for owner in job.metadata.owner_references} == {"one", "other"}


def test_a_run_that_is_ended_does_not_end_the_other_that_shares_its_pods(make_training: MakeTraining, tmp_path: Path) -> None:
    training = make_training(epochs=120)
    training.launch("one", run_id="run-1")
    training.await_event("one", "epoch", epoch=5)
    training.launch("other", run_id="run-2")
    training.await_event("other", "joining pods that another launcher has begun")
    training.signal("one", "SIGTERM")
    assert training.await_end("one").exit_code == 128 + 15
    end = training.await_end("other", timeout_seconds=240)
    assert end.exit_code == 0, end.log
    events = parse_events(end.log)
    assert [one for one in events if one["event"] == "the pods were deleted by someone else; beginning again, once"]
    assert [one["finished_epochs"] for one in events if one["event"] == "training"][-1] >= 4, "from the last checkpoint"
    assert len(training.fetch_curve(tmp_path)) == 120


def test_a_job_without_a_service_gets_one_from_the_launcher_that_takes_it_over(
    make_training: MakeTraining, tmp_path: Path
) -> None:
    training = make_training(epochs=120)
    job = lose_launcher(training)
    core, namespace = training.tenant.cluster.api.core, training.tenant.name
    core.delete_namespaced_service(job.metadata.name, namespace)
    training.launch("second")
    end = training.await_end("second")
    assert end.exit_code == 0, end.log
    service = core.read_namespaced_service(job.metadata.name, namespace)
    assert [owner.uid for owner in service.metadata.owner_references] == [job.metadata.uid]
    assert len(training.fetch_curve(tmp_path)) == 120
