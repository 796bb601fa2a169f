"""The platform layer: applied again and again, under Pod Security restricted, its data kept through restarts."""

import uuid

import pytest

from slipway.errors import ObjectMissingError
from slipway.tracking.client import open_client
from tests.integration.platform import Platform, await_platform, create_secrets

SECRETS = ("slipway-s3", "slipway-postgres")


def test_applying_it_again_changes_nothing(platform: Platform) -> None:
    def budgets() -> list[int]:
        return [one["metadata"]["generation"] for one in platform.cluster.list("poddisruptionbudgets", platform.namespace)]

    before = budgets()
    told = platform.cluster.kubectl("apply", "-k", str(platform.folder), timeout_seconds=120).splitlines()
    assert len(told) > 30
    changed = [line for line in told if not line.endswith(" unchanged")]
    # kubectl sends a budget's selector each time, and says "configured" whatever comes of it.
    assert [line for line in changed if not line.startswith("poddisruptionbudget")] == []
    assert budgets() == before
    different = platform.cluster.run_kubectl("diff", "-k", str(platform.folder), check=False, timeout_seconds=120)
    assert (different.returncode, different.stdout) == (0, "")


def test_making_the_secrets_again_changes_none(platform: Platform) -> None:
    def versions() -> list[str]:
        return [platform.cluster.get("secret", name, platform.namespace)["metadata"]["resourceVersion"] for name in SECRETS]

    before = versions()
    create_secrets(platform.cluster, platform.namespace)
    assert versions() == before


def test_every_pod_satisfies_pod_security_restricted(platform: Platform) -> None:
    labels = platform.cluster.get("namespace", platform.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(platform.cluster.list("pods", platform.namespace)) >= 4
    label = "pod-security.kubernetes.io/enforce=restricted"
    dry_run = platform.cluster.run_kubectl("label", "--dry-run=server", "--overwrite", "namespace", platform.namespace, label)
    assert "Warning" not in dry_run.stderr, "the API server names the pods of a namespace that a level would refuse"


def test_a_pod_that_wants_more_is_not_admitted(platform: Platform) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "rooted"},
        "spec": {"containers": [{"name": "main", "image": "busybox:1", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        platform.cluster.apply(pod, namespace=platform.namespace)


def test_every_container_says_what_it_needs_and_what_it_may_take(platform: Platform) -> None:
    for pod in platform.cluster.list("pods", platform.namespace):
        for container in pod["spec"]["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]) & set(resources["limits"]), pod["metadata"]["name"]


def test_minio_and_mlflow_keep_their_data_through_a_restart_of_their_pods(platform: Platform, tmp_path) -> None:
    settings = platform.settings(platform.namespace, tmp_path)
    name = f"kept-{uuid.uuid4().hex[:6]}"
    uri = f"s3://slipway/tests/{name}"
    platform.storage.write_bytes(uri, b"kept")
    client = open_client(settings)
    run = client.create_run(client.create_experiment(name))
    client.log_metric(run.info.run_id, "accuracy", 0.5)
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    client.create_registered_model(name)
    version = client.create_model_version(name, source="s3://slipway/nowhere/", run_id=run.info.run_id)
    client.set_registered_model_alias(name, "champion", version.version)

    before = {pod["metadata"]["uid"] for pod in platform.cluster.list("pods", platform.namespace)}
    platform.cluster.kubectl(
        "delete", "pods", "-l", "job-name!=buckets", f"--namespace={platform.namespace}", "--timeout=120s", timeout_seconds=120
    )
    await_platform(platform.cluster, platform.namespace)
    for forward in (platform.minio, platform.mlflow):
        forward.renew()
    after = {pod["metadata"]["uid"] for pod in platform.cluster.list("pods", platform.namespace, "job-name!=buckets")}
    assert not before & after

    assert platform.storage.read_bytes(uri) == b"kept"
    with pytest.raises(ObjectMissingError):
        platform.storage.read_bytes(f"{uri}-not")
    client = open_client(platform.settings(platform.namespace, tmp_path))
    assert client.get_run(run.info.run_id).data.metrics == {"accuracy": 0.5}
    assert client.get_model_version_by_alias(name, "champion").version == version.version
    stored = client.list_artifacts(run.info.run_id)
    assert [one.path for one in stored] == ["note.txt"]
