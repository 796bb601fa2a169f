"""Namespaces for tests, whose pods use the platform as those of its own namespace do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.settings import Settings
from tests.integration.cluster import LiveCluster, Manifest
from tests.integration.namespaces import make_namespace, own_label
from tests.integration.platform import TENANT_LABEL, Platform, state_uri

_TENANT_KINDS = {
    "ServiceAccount": ("pipeline-runner", "predictor"),
    "ConfigMap": ("slipway",),
    "ServingRuntime": ("slipway",),
}


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


@contextmanager
def tenant_namespace(platform: Platform, name: str) -> Iterator[Tenant]:
    """A fresh namespace with the platform's service accounts, rights, runtime and environment, deleted when the block ends.

    It is gone some seconds later, which nobody waits for before the platform itself is removed.
    """
    cluster = platform.cluster
    objects = tuple(_tenant_objects(platform, name))
    try:
        make_namespace(cluster, name, {**own_label(), TENANT_LABEL: "true"})
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
