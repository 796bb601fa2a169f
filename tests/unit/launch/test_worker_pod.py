"""What a worker takes over from the pod that launches it."""

import pytest

from slipway.errors import ConfigError
from slipway.launch.worker_pod import WorkerNeeds, WorkerPod

GPU = "nvidia.com/gpu"


def test_a_worker_has_the_image_and_environment_of_the_task_and_secrets_stay_references(launcher):
    pod = WorkerPod.from_launcher(launcher, WorkerNeeds(resources=None))
    container = pod.build_container("train", ["python"], "run-1")
    assert container["image"] == "ghcr.io/slipway/slipway-trainer-python:0.1.0"
    env = {one["name"]: one for one in container["env"]}
    assert set(env) == {
        "SLIPWAY_LOG_FORMAT",
        "HTTPS_PROXY",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "SLIPWAY_HOME",
        "SLIPWAY_RUN_ID",
    }
    assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "slipway-s3", "key": "S"}}
    assert env["SLIPWAY_RUN_ID"]["value"] == "run-1"


def test_a_worker_goes_to_the_same_nodes_and_to_those_that_the_pipeline_names(launcher):
    toleration = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    needs = WorkerNeeds(resources={}, tolerations=(toleration,), node_selector={"accelerator": "h100"})
    spec = WorkerPod.from_launcher(launcher, needs).build_spec(["python"], "", subdomain="s")
    dedicated = {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
    assert spec["tolerations"] == [dedicated, toleration]
    assert spec["nodeSelector"] == {"pool": "batch", "accelerator": "h100"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_the_pipelines_resources_come_before_the_launchers_own(launcher):
    stated = {"limits": {GPU: "2"}}
    assert WorkerPod.from_launcher(launcher, WorkerNeeds(resources=stated)).resources == stated
    assert WorkerPod.from_launcher(launcher, WorkerNeeds.parse("")).resources == {
        "requests": {"cpu": "250m"},
        "limits": {"cpu": "1", "memory": "2Gi"},
    }


def test_a_worker_gets_no_token_and_none_of_the_volumes_that_are_the_launchers_own(launcher):
    spec = WorkerPod.from_launcher(launcher, WorkerNeeds(resources=None)).build_spec(["python"], "", subdomain="s")
    assert spec["automountServiceAccountToken"] is False
    assert [one["name"] for one in spec["volumes"]] == ["tmp", "shared-memory", "ca"]
    (container,) = spec["containers"]
    assert [one["mountPath"] for one in container["volumeMounts"]] == ["/tmp", "/dev/shm", "/etc/ssl/own"]


@pytest.mark.parametrize("user", [None, 0, 1234], ids=["unstated", "root", "stated"])
def test_a_worker_never_runs_as_root(launcher, user):
    launcher["spec"]["containers"][1]["securityContext"] = {} if user is None else {"runAsUser": user}
    context = WorkerPod.from_launcher(launcher, WorkerNeeds(resources=None)).pod_security
    assert context["runAsUser"] == (user or 1000)
    assert context["runAsNonRoot"] is True
    assert context["fsGroup"] == 2000


def test_what_the_pipeline_says_of_workers_is_read_as_it_was_written():
    needs = WorkerNeeds(
        resources={"limits": {"cpu": "4"}}, tolerations=({"key": "a"},), node_selector={"b": "c"}, timeout_seconds=7
    )
    assert WorkerNeeds.parse(needs.to_json()) == needs


@pytest.mark.parametrize("text", ["{", "[]", '{"timeoutSeconds": "soon"}'])
def test_what_is_not_of_that_form_is_refused_with_the_remedy(text):
    with pytest.raises(ConfigError, match="compile the pipeline again"):
        WorkerNeeds.parse(text)
