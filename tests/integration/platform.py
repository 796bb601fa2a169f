"""The platform layer as a user installs it, in a namespace of the tests' own; and namespaces beside it that use its services."""

import base64
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from slipway.settings import Settings, child_environment, load_settings
from slipway.storage.objects import ObjectStorage
from tests.integration.cluster import Forward, LiveCluster, Manifest, forwarded, wait_until
from tests.integration.diagnosis import diagnosed

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "manifests" / "overlays" / "kind"
OWNER_LABEL = "slipway.dev/tests-of"
"""On each namespace that tests make: host and process, so that those of a killed session are found and removed."""
TENANT_LABEL = "slipway.dev/uses-platform"
READY_SECONDS = 300.0
_MAX_RESTARTS = 4  # MLflow comes up before its database
_TENANT_KINDS = {
    "ServiceAccount": ("pipeline-runner", "predictor"),
    "ConfigMap": ("slipway",),
    "ServingRuntime": ("slipway",),
}
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """MinIO, MLflow and what belongs to them, ready for use."""

    cluster: LiveCluster
    namespace: str
    rendered: tuple[Manifest, ...]
    """What was applied."""
    minio: Forward
    mlflow: Forward
    folder: Path
    """The kustomization that was applied."""

    @cached_property
    def credentials(self) -> dict[str, str]:
        """AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
        return read_secret(self.cluster, self.namespace, "slipway-s3")

    def environment(self, namespace: str, home: Path, *, state: str = "") -> dict[str, str]:
        """What a laptop's environment says when it looks at what the tasks in `namespace` keep and serve."""
        return child_environment(
            SLIPWAY_HOME=str(home),
            SLIPWAY_STATE_URI=state or state_uri(namespace),
            SLIPWAY_SERVING_NAMESPACE=namespace,
            MLFLOW_TRACKING_URI=self.mlflow.url,
            AWS_ENDPOINT_URL=self.minio.url,
            AWS_REGION="us-east-1",
            KUBECONFIG=self.cluster.kubeconfig,
            **self.credentials,
        )

    def settings(self, namespace: str, home: Path) -> Settings:
        """`environment`, read."""
        return load_settings(self.environment(namespace, home))

    @property
    def storage(self) -> ObjectStorage:
        """MinIO from this process."""
        return ObjectStorage(self.settings(self.namespace, Path("unused")))


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A fresh namespace whose pods may use the platform, with state of its own under the bucket `slipway`."""

    name: str
    platform: Platform
    objects: tuple[Manifest, ...] = field(repr=False)

    @property
    def cluster(self) -> LiveCluster:
        """The cluster it lies in."""
        return self.platform.cluster

    @property
    def state_uri(self) -> str:
        """What SLIPWAY_STATE_URI says there."""
        return state_uri(self.name)

    @property
    def env_from(self) -> list[dict[str, Any]]:
        """For `build_pod`: the environment that a pipeline task has."""
        return [{"configMapRef": {"name": "slipway"}}, {"secretRef": {"name": "slipway-s3"}}]

    def environment(self, home: Path) -> dict[str, str]:
        """See `Platform.environment`."""
        return self.platform.environment(self.name, home)

    def settings(self, home: Path) -> Settings:
        """See `Platform.settings`."""
        return self.platform.settings(self.name, home)


def state_uri(namespace: str) -> str:
    """Where the tasks of a tests' namespace keep their state."""
    return f"s3://slipway/{namespace}"


def read_secret(cluster: LiveCluster, namespace: str, name: str) -> dict[str, str]:
    """A Secret's content in clear text."""
    data = cluster.get("secret", name, namespace)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def owner() -> str:
    """This session's value of OWNER_LABEL."""
    return f"{socket.gethostname()[:40]}.{os.getpid()}"


def make_namespace(cluster: LiveCluster, name: str, **labels: str) -> None:
    """A namespace that enforces Pod Security restricted and is known as the tests' own."""
    labels = {OWNER_LABEL: owner(), **_RESTRICTED, **labels}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def remove_leftovers(cluster: LiveCluster) -> None:
    """Delete the namespaces of sessions on this host that were killed."""
    host = owner().rpartition(".")[0]
    for namespace in cluster.list("namespaces", selector=OWNER_LABEL):
        name = namespace["metadata"]["name"]
        holder, _, pid = namespace["metadata"]["labels"][OWNER_LABEL].rpartition(".")
        if holder == host and not Path(f"/proc/{pid}").exists():
            cluster.begin_deleting(name)
            cluster.await_deletion(name)
            release_volumes(cluster, name)


def release_volumes(cluster: LiveCluster, namespace: str) -> None:
    """Empty and free the static volumes that claims of a deleted namespace have held.

    Only those that no provisioner made and that lie on this host, as the development cluster's do: nobody else would.
    """
    for volume in cluster.list("persistentvolumes"):
        spec = volume["spec"]
        path = Path(spec.get("hostPath", {}).get("path", "/nowhere"))
        ours = spec.get("claimRef", {}).get("namespace") == namespace and volume["status"]["phase"] == "Released"
        provisioned = "pv.kubernetes.io/provisioned-by" in volume["metadata"].get("annotations", {})
        if ours and not provisioned and path.is_dir():
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            cluster.kubectl("patch", "pv", volume["metadata"]["name"], "--type=merge", "--patch", '{"spec": {"claimRef": null}}')


@contextmanager
def installed_platform(cluster: LiveCluster, namespace: str, images: Mapping[str, str]) -> Iterator[Platform]:
    """Install the platform layer from manifests/overlays/kind with `images` (name to tag), and remove it afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="slipway-platform-")))
        write_kustomization(folder, namespace, images)
        stack.callback(_remove_platform, cluster, namespace)
        stack.enter_context(diagnosed(cluster, namespace))
        make_namespace(cluster, namespace)
        create_secrets(cluster, namespace)
        cluster.kubectl("apply", "-k", str(folder), timeout_seconds=120)
        with opened_platform(cluster, namespace, folder) as platform:
            yield platform


def _remove_platform(cluster: LiveCluster, namespace: str) -> None:
    cluster.begin_deleting(namespace)
    for tenant in cluster.list("namespaces", selector=f"{OWNER_LABEL}={owner()}"):
        cluster.await_deletion(tenant["metadata"]["name"])
    release_volumes(cluster, namespace)


@contextmanager
def opened_platform(cluster: LiveCluster, namespace: str, folder: Path) -> Iterator[Platform]:
    """The platform layer of a namespace, once all of it is ready."""
    rendered = render(cluster, folder)
    await_platform(cluster, namespace)
    with (
        forwarded(cluster, namespace, "svc/minio", 9000) as minio,
        forwarded(cluster, namespace, "svc/mlflow", 5000) as mlflow,
    ):
        yield Platform(cluster=cluster, namespace=namespace, rendered=rendered, minio=minio, mlflow=mlflow, folder=folder)


def write_kustomization(folder: Path, namespace: str, images: Mapping[str, str]) -> None:
    """The kind overlay, moved to `namespace`, with the images that were built here."""
    own_label = [{"op": "add", "path": f"/metadata/labels/{OWNER_LABEL.replace('/', '~1')}", "value": owner()}]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(OVERLAY, folder.resolve()), "tenants.yaml"],
        "images": [{"name": name, "newTag": tag} for name, tag in images.items()],
        "patches": [{"target": {"kind": "Namespace"}, "patch": json.dumps(own_label)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (folder / "tenants.yaml").write_text(yaml.safe_dump(_ADMIT_TENANTS))


# Namespaces of tests use the services as the platform's own namespace does.
_ADMIT_TENANTS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "admit-tests"},
    "spec": {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {TENANT_LABEL: "true"}}}]}],
    },
}


def render(cluster: LiveCluster, folder: Path) -> tuple[Manifest, ...]:
    """The objects of a kustomization."""
    return tuple(one for one in yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))) if one)


def create_secrets(cluster: LiveCluster, namespace: str) -> None:
    """The Secrets that `make secrets` makes, by its own script."""
    command = [ROOT / "manifests" / "secrets", namespace]
    environment = child_environment(KUBECONFIG=cluster.kubeconfig)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def await_platform(cluster: LiveCluster, namespace: str) -> None:
    """Wait until every workload of the platform layer is ready and its Jobs are done; a pod that keeps crashing ends it."""
    wait_until(
        f"all of {namespace} is ready",
        lambda: _is_ready(cluster, namespace) or _require_no_crash(cluster, namespace),
        timeout_seconds=READY_SECONDS,
        poll=1.0,
    )


def _is_ready(cluster: LiveCluster, namespace: str) -> bool:
    workloads = cluster.list("statefulsets,deployments,jobs", namespace)
    return bool(workloads) and all(_is_settled(workload) for workload in workloads)


def _is_settled(workload: Manifest) -> bool:
    """What `kubectl rollout status` asks, and of a Job whether it is complete."""
    status = workload["status"]
    if workload["kind"] == "Job":
        return any(one["type"] == "Complete" and one["status"] == "True" for one in status.get("conditions", []))
    wanted = workload["spec"]["replicas"]
    current = status.get("observedGeneration") == workload["metadata"]["generation"]
    return current and all(status.get(f"{count}", 0) == wanted for count in ("updatedReplicas", "readyReplicas", "replicas"))


def _require_no_crash(cluster: LiveCluster, namespace: str) -> None:
    for pod in cluster.list("pods", namespace):
        for container in pod["status"].get("containerStatuses", []):
            name = pod["metadata"]["name"]
            assert container["restartCount"] < _MAX_RESTARTS, f"pod {name} has crashed {container['restartCount']} times"


@contextmanager
def tenant_namespace(platform: Platform, name: str) -> Iterator[Tenant]:
    """A fresh namespace with the platform's service accounts, rights, runtime and environment, deleted when the block ends.

    It is gone some seconds later, which nobody waits for before the platform itself is removed.
    """
    cluster = platform.cluster
    objects = tuple(_tenant_objects(platform, name))
    try:
        make_namespace(cluster, name, **{TENANT_LABEL: "true"})
        cluster.apply(*objects, namespace=name)
        yield Tenant(name=name, platform=platform, objects=objects)
    finally:
        cluster.begin_deleting(name)


def _tenant_objects(platform: Platform, name: str) -> Iterator[Manifest]:
    accounts = _TENANT_KINDS["ServiceAccount"]
    bindings = [
        one
        for one in platform.rendered
        if one["kind"] == "RoleBinding" and any(subject["name"] in accounts for subject in one.get("subjects", []))
    ]
    roles = {one["roleRef"]["name"] for one in bindings}
    for manifest in platform.rendered:
        kind, own_name = manifest["kind"], manifest["metadata"]["name"]
        if own_name in _TENANT_KINDS.get(kind, ()) or (kind == "Role" and own_name in roles) or manifest in bindings:
            yield _move(manifest, platform.namespace, name)
    yield _copy_secret(platform, name)


def _move(manifest: Manifest, source: str, target: str) -> dict[str, Any]:
    """A manifest in another namespace, its services still found where they are."""
    moved: dict[str, Any] = json.loads(json.dumps(manifest))
    moved["metadata"]["namespace"] = target
    for subject in moved.get("subjects", []):
        if subject.get("namespace") == source:
            subject["namespace"] = target
    if moved["kind"] == "ConfigMap":
        moved["data"] |= {
            "SLIPWAY_STATE_URI": state_uri(target),
            "SLIPWAY_SERVING_NAMESPACE": target,
            "MLFLOW_TRACKING_URI": f"http://mlflow.{source}.svc:5000",
            "AWS_ENDPOINT_URL": f"http://minio.{source}.svc:9000",
        }
    return moved


def _copy_secret(platform: Platform, name: str) -> Manifest:
    secret = platform.cluster.get("secret", "slipway-s3", platform.namespace)
    annotations = {key: value for key, value in secret["metadata"].get("annotations", {}).items() if key.startswith("serving.")}
    annotations["serving.kserve.io/s3-endpoint"] = f"minio.{platform.namespace}.svc:9000"
    metadata = {"name": "slipway-s3", "namespace": name, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]}
