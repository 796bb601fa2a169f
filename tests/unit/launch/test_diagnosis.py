"""When a pod that does not run is given up, and why a training failed, from pods as the API server describes them."""

from datetime import UTC, datetime, timedelta

from kubernetes.client import (
    CoreV1Event,
    CoreV1EventSeries,
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodStatus,
)

from slipway.launch.diagnosis import Patience, describe_failure, find_refusal
from slipway.launch.indexed_job import IndexedJobs
from slipway.launch.workload import WorkloadStatus
from slipway.training.node_failure import FAILED_FOR_GOOD, NodeFailure

NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def pending(name: str = "p", *, conditions=None, state: V1ContainerState | None = None) -> V1Pod:
    containers = [V1ContainerStatus(name="train", image="i", image_id="", ready=False, restart_count=0, state=state)]
    status = V1PodStatus(phase="Pending", conditions=conditions, container_statuses=containers if state else None)
    return V1Pod(metadata=V1ObjectMeta(name=name), status=status)


def unschedulable(name: str = "p") -> V1Pod:
    condition = V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=NO_GPU)
    return pending(name, conditions=[condition])


def waiting(reason: str, message: str = "") -> V1Pod:
    return pending(state=V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message=message)))


def ended(name: str, exit_code: int, message: str, reason: str = "Error") -> V1Pod:
    state = V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=exit_code, reason=reason, message=message))
    containers = [V1ContainerStatus(name="train", image="i", image_id="", ready=False, restart_count=0, state=state)]
    return V1Pod(metadata=V1ObjectMeta(name=name), status=V1PodStatus(phase="Failed", container_statuses=containers))


def test_an_unschedulable_pod_is_given_its_time_and_then_reported_in_the_schedulers_words():
    patience = Patience(45)
    assert patience.find_obstacle([unschedulable()], 100) is None
    assert patience.find_obstacle([unschedulable()], 144) is None
    problem = patience.find_obstacle([unschedulable()], 145)
    assert problem is not None
    assert NO_GPU in str(problem)


def test_a_pod_that_found_a_node_in_time_begins_anew_when_it_is_replaced():
    patience = Patience(45)
    patience.find_obstacle([unschedulable("first")], 0)
    assert patience.find_obstacle([unschedulable("second")], 60) is None
    assert patience.find_obstacle([unschedulable("second")], 105) is not None


def test_an_image_that_does_not_exist_is_reported_at_once_and_a_registry_that_does_not_answer_in_its_time():
    not_there = waiting("ErrImagePull", 'failed to resolve reference "x:1": x:1: not found')
    assert Patience(45).find_obstacle([not_there], 0) is not None
    assert Patience(45).find_obstacle([waiting("InvalidImageName")], 0) is not None
    away = waiting("ErrImagePull", "dial tcp 10.0.0.1:443: connect: connection refused")
    patience = Patience(45)
    assert patience.find_obstacle([away], 0) is None
    assert patience.find_obstacle([away], 50) is not None


def test_an_image_that_is_being_fetched_may_take_longer_than_the_scheduler():
    patience = Patience(45)
    assert patience.find_obstacle([waiting("ContainerCreating")], 0) is None
    assert patience.find_obstacle([waiting("ContainerCreating")], 600) is None
    assert patience.find_obstacle([waiting("ContainerCreating")], 2000) is not None


def describe(make_plan, *pods: V1Pod, message: str = "PodFailurePolicy: no") -> str:
    status = WorkloadStatus(
        name="train-x", state="failed", message=message, deleting=False, uid="u", owners=(), version="1", age_seconds=9
    )

    class NoLogs:
        """Reading a log must not be needed."""

    return describe_failure(NoLogs(), "ns", IndexedJobs(None, "ns"), make_plan(), status, pods)


def failure(message: str, at: float, tmp_path) -> str:
    NodeFailure(kind="TrainingFailedError", message=message, at=at).write(tmp_path / "said")
    return (tmp_path / "said").read_text()


def test_the_node_that_failed_first_says_why_and_not_those_that_lost_it(make_plan, tmp_path):
    consequence = ended("train-0", FAILED_FOR_GOOD, failure("Connection closed by peer", 11.0, tmp_path))
    cause = ended("train-1", FAILED_FOR_GOOD, failure("the training loss became nan in epoch 3", 10.9, tmp_path))
    assert describe(make_plan, consequence, cause) == "the training loss became nan in epoch 3"


def test_what_another_start_mended_is_not_taken_for_the_cause(make_plan, tmp_path):
    mended = ended("train-0", 1, failure("the store did not answer", 1.0, tmp_path))
    cause = ended("train-0", FAILED_FOR_GOOD, failure("the training loss became nan in epoch 3", 9.0, tmp_path))
    assert describe(make_plan, mended, cause) == "the training loss became nan in epoch 3"
    last = ended("train-0", 1, failure("the bucket is gone", 2.0, tmp_path))
    assert describe(make_plan, mended, last) == "the bucket is gone"


def test_a_message_longer_than_kubernetes_keeps_is_cut_and_still_read(tmp_path):
    said = failure("x" * 10_000, 1.0, tmp_path)
    assert len(said) < 4096
    assert NodeFailure.parse(said).message == "x" * len(NodeFailure.parse(said).message)
    escaped = failure('"\n' * 3_000, 1.0, tmp_path)
    assert len(escaped) < 4096
    assert NodeFailure.parse(escaped).message.startswith('"\n')


def test_a_job_that_failed_without_a_pod_to_ask_is_described_in_the_clusters_words(make_plan):
    assert "PodFailurePolicy: no" in describe(make_plan)


def test_a_job_whose_lease_ran_out_says_so(make_plan):
    described = describe(make_plan, message="DeadlineExceeded: Job was active longer than specified deadline")
    assert "was not renewed for 120 s" in described


def test_a_log_that_looks_like_no_failure_is_taken_for_none():
    assert NodeFailure.parse("Traceback (most recent call last):") is None
    assert NodeFailure.parse('{"event": "epoch"}') is None


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def event(message: str, **times: object) -> CoreV1Event:
    return CoreV1Event(metadata=V1ObjectMeta(name=message), involved_object={}, message=message, **times)


def test_a_refusal_from_before_the_last_pod_was_made_is_no_reason_to_give_up():
    early = event("exceeded quota", last_timestamp=at(5))
    assert find_refusal([early], at(0)) == "exceeded quota"
    assert find_refusal([early], at(15)) == ""
    late = event("exceeded quota again", last_timestamp=at(900))
    assert find_refusal([late, early], at(15)) == "exceeded quota again"
    assert find_refusal([early, late], None) == "exceeded quota again", "the last one, in whichever order they come"


def test_a_refusal_that_is_repeated_counts_from_its_last_time():
    assert find_refusal([event("no", first_timestamp=at(5), last_timestamp=at(70))], at(15)) == "no"
    newer_form = event("no", event_time=at(5), series=CoreV1EventSeries(count=2, last_observed_time=at(70)))
    assert find_refusal([newer_form], at(15)) == "no"
    assert find_refusal([event("no", event_time=at(5))], at(15)) == ""
