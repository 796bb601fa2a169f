"""What the launchers create, against Kubernetes' own schemas, Kubeflow Trainer's, and Pod Security restricted."""

import copy
from typing import Any

import pytest

from pipelines.resources import describe_worker
from slipway.config import TrainConfig
from slipway.launch.indexed_job import build_job, build_service
from slipway.launch.train_job import NODE, RUNTIME, SHARED_MEMORY_VOLUME, build_train_job
from slipway.launch.worker_pod import WorkerNeeds, WorkerPod
from slipway.launch.workload import WorkloadPlan, name_workload
from slipway.training.node_failure import FAILED_FOR_GOOD
from tests.contract.pod_rules import find_pods, unbounded, violations
from tests.contract.tools import MANIFESTS, Manifest, build_with, validate

RUN_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
LAUNCHER: Manifest = {
    "spec": {
        "serviceAccountName": "pipeline-runner",
        "imagePullSecrets": [{"name": "registry"}],
        "affinity": {"nodeAffinity": {}},
        "containers": [
            {
                "name": "main",
                "image": "ghcr.io/slipway/slipway-trainer-python:0.1.0",
                "env": [{"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "slipway-s3", "key": "S"}}}],
                "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
                "volumeMounts": [{"name": "ca", "mountPath": "/etc/own-ca"}],
            }
        ],
        "volumes": [{"name": "ca", "configMap": {"name": "own-ca"}}],
    }
}


def make_plan(num_gpus: int, **train: Any) -> WorkloadPlan:
    needs = WorkerNeeds.parse(describe_worker(TrainConfig(num_gpus=num_gpus, **train)).to_json())
    return WorkloadPlan(
        name=name_workload(RUN_ID, "0" * 32),
        training_key="0" * 32,
        run_id=RUN_ID,
        work_uri="s3://slipway/state/work/train/0",
        meeting="m",
        num_nodes=2,
        num_processes=max(1, num_gpus),
        max_restarts=2,
        owner={"apiVersion": "v1", "kind": "Pod", "name": "launcher", "uid": "1-2-3"},
        pod=WorkerPod.from_launcher(copy.deepcopy(LAUNCHER), needs),
        timeout_seconds=needs.timeout_seconds,
    )


@pytest.mark.parametrize("num_gpus", [0, 2])
def test_what_the_launchers_create_is_what_the_cluster_takes(schemas, num_gpus):
    plan = make_plan(num_gpus)
    assert validate((build_job(plan), build_service(plan, job_uid="1-2"), build_train_job(plan)), schemas) == []


@pytest.mark.parametrize("num_gpus", [0, 2])
def test_workers_keep_to_pod_security_restricted_and_are_bounded(num_gpus):
    (pods,) = find_pods((build_job(make_plan(num_gpus)),))
    assert list(violations(pods)) == []
    assert [unbounded(container) for container in pods.containers] == [set()]
    assert pods.spec["automountServiceAccountToken"] is False


def test_gpus_and_the_toleration_of_their_nodes_reach_the_workers_of_both_kinds():
    plan = make_plan(2)
    pod = build_job(plan)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert any(one.get("emptyDir", {}).get("medium") == "Memory" for one in pod["volumes"])
    train_job = build_train_job(plan)["spec"]
    assert train_job["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    assert (train_job["trainer"]["numNodes"], train_job["trainer"]["numProcPerNode"]) == (2, 2)
    (patch,) = train_job["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["template"]["spec"]["template"]["spec"]["tolerations"] == pod["tolerations"]


def test_nodes_and_shared_memory_that_are_asked_for_reach_the_workers_of_both_kinds(schemas):
    plan = make_plan(0, node_selector="pool=training", shared_memory_gib=8)
    pod = build_job(plan)["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["pool"] == "training"
    (memory,) = [one["emptyDir"] for one in pod["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"]
    assert memory["sizeLimit"] == "8Gi"
    train_job = build_train_job(plan)
    (replicated,) = train_job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    patch = replicated["template"]["spec"]["template"]["spec"]
    assert patch["nodeSelector"] == pod["nodeSelector"]
    (changed,) = [one for one in patch["volumes"] if "emptyDir" in one]
    assert changed == {"name": SHARED_MEMORY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert validate((build_job(plan), train_job), schemas) == []


def test_the_shared_memory_of_a_runtime_stays_where_none_is_asked_for():
    (patch,) = build_train_job(make_plan(0))["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert [one["name"] for one in replicated["template"]["spec"]["template"]["spec"]["volumes"]] == ["ca"]


def test_the_runtime_that_a_train_job_names_runs_its_pods_by_the_rules_of_an_indexed_job(tmp_path):
    plan = make_plan(0)
    rendered = build_with(MANIFESTS / "base", tmp_path, "trainer-runtime")
    reference = build_train_job(plan)["spec"]["runtimeRef"]
    (runtime,) = [one for one in rendered if one["kind"] == reference["kind"]]
    assert runtime["metadata"]["name"] == reference["name"] == RUNTIME
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == NODE
    job, own = replicated["template"]["spec"], build_job(plan)["spec"]
    for name in ("completionMode", "maxFailedIndexes", "podReplacementPolicy", "successPolicy", "backoffLimitPerIndex"):
        assert job[name] == own[name], name
    rules, own_rules = job["podFailurePolicy"]["rules"], own["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"] == {"containerName": NODE, "operator": "In", "values": [FAILED_FOR_GOOD]}
    assert rules[1] == own_rules[1]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert [container["name"] for container in pod["containers"]] == [NODE]
    mounted = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounted) == {"/tmp", "/dev/shm"}
    assert mounted["/dev/shm"] == SHARED_MEMORY_VOLUME
