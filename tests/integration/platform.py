"""The platform layer as a user installs it, in a namespace of the tests' own."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from slipway.settings import Settings, child_environment, load_settings
from slipway.storage.objects import ObjectStorage
from tests.integration.cluster import Forward, LiveCluster, Manifest, forwarded, wait_until
from tests.integration.diagnosis import diagnosed
from tests.integration.namespaces import make_namespace, own_label, own_selector, release_volumes

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "manifests" / "overlays" / "kind"
TENANT_LABEL = "slipway.dev/uses-platform"
"""Namespaces that have it may reach the platform's services."""
READY_SECONDS = 300.0
_MAX_RESTARTS = 4  # MLflow comes up before its database

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


def state_uri(namespace: str) -> str:
    """Where the tasks of a tests' namespace keep their state."""
    return f"s3://slipway/{namespace}"


def read_secret(cluster: LiveCluster, namespace: str, name: str) -> dict[str, str]:
    """A Secret's content in clear text."""
    data = cluster.get("secret", name, namespace)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@contextmanager
def installed_platform(
    cluster: LiveCluster, namespace: str, images: Mapping[str, str], *, keep: bool = False
) -> Iterator[Platform]:
    """Install the platform layer from manifests/overlays/kind with `images` (name to tag), and remove it afterwards.

    With `keep` it stays, and what is there already is brought up to date.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="slipway-platform-")))
        labels = {} if keep else own_label()
        write_kustomization(folder, namespace, images, labels)
        if keep:  # a Job cannot be changed, and its image may be another
            cluster.kubectl("delete", "job", "buckets", "--ignore-not-found", f"--namespace={namespace}")
        else:
            stack.callback(_remove_platform, cluster, namespace)
        stack.enter_context(diagnosed(cluster, namespace))
        make_namespace(cluster, namespace, labels)
        create_secrets(cluster, namespace)
        cluster.kubectl("apply", "-k", str(folder), timeout_seconds=120)
        rendered = render(cluster, folder)
        await_platform(cluster, namespace)
        minio = stack.enter_context(forwarded(cluster, namespace, "svc/minio", 9000))
        mlflow = stack.enter_context(forwarded(cluster, namespace, "svc/mlflow", 5000))
        yield Platform(cluster=cluster, namespace=namespace, rendered=rendered, minio=minio, mlflow=mlflow, folder=folder)


def _remove_platform(cluster: LiveCluster, namespace: str) -> None:
    cluster.begin_deleting(namespace)
    for owned in cluster.list("namespaces", selector=own_selector()):
        cluster.await_deletion(owned["metadata"]["name"])
    release_volumes(cluster, namespace)


def write_kustomization(folder: Path, namespace: str, images: Mapping[str, str], labels: Mapping[str, str]) -> None:
    """The kind overlay, moved to `namespace`, which gets `labels`, with the images that were built here."""
    patch = [{"op": "add", "path": f"/metadata/labels/{key.replace('/', '~1')}", "value": value} for key, value in labels.items()]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(OVERLAY, folder.resolve()), "tenants.yaml"],
        "images": [{"name": name, "newTag": tag} for name, tag in images.items()],
        "patches": [{"target": {"kind": "Namespace"}, "patch": json.dumps(patch)}] if patch else [],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (folder / "tenants.yaml").write_text(yaml.safe_dump(_ADMIT_TENANTS))


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
