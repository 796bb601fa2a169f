"""The Job: its name, its rules, and how its state is read."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import V1Job, V1JobCondition, V1JobStatus, V1ObjectMeta, V1OwnerReference

from slipway.launch.indexed_job import LEASE_SECONDS, build_job, build_service, read_status
from slipway.launch.workload import name_workload
from slipway.training.node import PORT
from slipway.training.node_failure import FAILED_FOR_GOOD

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@given(st.text(), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_whatever_a_run_is_called_its_pods_names_are_dns_labels(run_id, key):
    assert DNS_LABEL.fullmatch(f"{name_workload(run_id, key)}-9999")
    assert len(f"{name_workload(run_id, key)}-9999") <= 63


def test_the_name_has_the_whole_run_id_of_a_kfp_run_and_tells_its_trainings_apart():
    run_id = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    assert name_workload(run_id, "0" * 32).startswith(f"train-{run_id}-")
    assert name_workload(run_id, "0" * 32) != name_workload(run_id, "1" * 32)


def test_pods_find_each_other_under_the_service_of_the_jobs_own_name(make_plan):
    plan = make_plan()
    job, service = build_job(plan), build_service(plan, job_uid="u")
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"] == plan.name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["ports"] == [{"name": "rendezvous", "port": PORT}]
    (owner,) = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", plan.name, "u")


def test_the_job_ends_with_its_launcher_in_each_of_the_ways_that_an_object_can_say(make_plan):
    job = build_job(make_plan())
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", "launcher")
    assert job["spec"]["activeDeadlineSeconds"] == LEASE_SECONDS
    assert build_job(make_plan(owner=None))["metadata"]["ownerReferences"] == []


def test_a_dead_pod_is_started_again_but_a_failure_for_good_ends_the_job_at_once(make_plan):
    spec = build_job(make_plan())["spec"]
    for_good, disrupted = spec["podFailurePolicy"]["rules"]
    assert for_good == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "train", "operator": "In", "values": [FAILED_FOR_GOOD]},
    }
    assert (disrupted["action"], disrupted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (3, 0)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)


def test_every_label_of_the_job_is_one_that_kubernetes_takes(make_plan):
    for run_id in ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "", "Ünïcode / run", "x" * 100):
        for value in build_job(make_plan(run_id=run_id))["metadata"]["labels"].values():
            assert LABEL_VALUE.fullmatch(value), run_id


def job(*conditions: tuple[str, str], completed: str | None = None, **metadata: object) -> V1Job:
    return V1Job(
        metadata=V1ObjectMeta(name="train-x", resource_version="7", **metadata),
        status=V1JobStatus(
            start_time=datetime.now(UTC) - timedelta(seconds=50),
            completed_indexes=completed,
            conditions=[
                V1JobCondition(type=type_, status=status, reason="Why", message="because") for type_, status in conditions
            ],
        ),
    )


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (job(), "running"),
        (job(("Complete", "True")), "succeeded"),
        (job(("SuccessCriteriaMet", "True")), "succeeded"),
        (job(("FailureTarget", "True")), "failed"),
        (job(("Failed", "True")), "failed"),
        (job(("Suspended", "False")), "running"),
        (job(completed="0"), "succeeded"),
        (job(completed="0-3,5"), "succeeded"),
        (job(completed="1,10"), "running"),
    ],
)
def test_a_jobs_state_is_that_of_node_0(found, state):
    assert read_status(found).state == state


def test_what_is_read_of_a_job_is_enough_to_take_it_over():
    owner = V1OwnerReference(api_version="v1", kind="Pod", name="launcher", uid="1-2-3")
    status = read_status(job(("Failed", "True"), owner_references=[owner], deletion_timestamp=datetime.now(UTC)))
    assert status.deleting
    assert status.message == "Why: because"
    assert status.owners == ({"apiVersion": "v1", "kind": "Pod", "name": "launcher", "uid": "1-2-3"},)
    assert status.version == "7"
    assert 45 < status.age_seconds < 60
