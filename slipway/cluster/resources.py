"""Custom resources, changed without overwriting what others have changed, and not at all where nothing differs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from slipway.cluster.client import Cluster, translated_errors
from slipway.errors import ClusterError

Manifest = dict[str, Any]
_NUM_ATTEMPTS = 10
"""Controllers write an object's status a few times a second while it changes; each is a conflict with a patch that came late."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class ResourceKind:
    """A kind of custom resource."""

    kind: str
    group: str
    version: str
    plural: str


def _accept(_: Manifest | None) -> None:
    """Whatever is there may be changed."""


@dataclass(frozen=True, kw_only=True)
class CustomResources:
    """The objects of one kind in one namespace. Every method raises ClusterError where the API server refuses."""

    cluster: Cluster
    namespace: str
    kind: ResourceKind

    def get(self, name: str) -> Manifest | None:
        """The object; None where there is none."""
        with translated_errors(f"reading {self._name(name)}"):
            return self._tolerate(
                lambda: self.cluster.custom.get_namespaced_custom_object(*self._path, name), HTTPStatus.NOT_FOUND
            )

    def list(self, label_selector: str = "") -> list[Manifest]:
        """The objects with these labels, by name."""
        with translated_errors(f"listing the {self.kind.plural} of {self.namespace}"):
            found = self.cluster.custom.list_namespaced_custom_object(*self._path, label_selector=label_selector)
        items: list[Manifest] = found["items"]
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def apply(
        self,
        desired: Manifest,
        *,
        check: Callable[[Manifest | None], None] = _accept,
        remove: Callable[[str], bool] | None = None,
    ) -> Manifest:
        """Let the object say what `desired` says: created where there is none, patched where it differs.

        Args:
            desired: The manifest; what it does not mention stays as it is.
            check: Is shown what is there before each attempt, and raises where it may not be changed.
            remove: Says of a field that `desired` does not mention, by its path such as `.spec.predictor.minReplicas`, whether
                it goes.

        Raises:
            ClusterError: also where others change it faster than it can be patched.
        """
        name = desired["metadata"]["name"]
        for _ in range(_NUM_ATTEMPTS):
            current = self.get(name)
            check(current)
            if current is None:
                written = self._create(name, desired)
            else:
                patch = merge_patch(current, desired, remove=remove)
                written = self._patch(current, patch) if patch else current
            if written is not None:
                return written
            time.sleep(_POLL_SECONDS)
        raise ClusterError(
            f"{self._name(name)} was changed by others in each of {_NUM_ATTEMPTS} attempts. See who does: "
            f"kubectl get {self.kind.plural} {name} --namespace {self.namespace} --output yaml --show-managed-fields",
            status=HTTPStatus.CONFLICT,
        )

    def delete(self, manifest: Manifest) -> None:
        """Delete this very object, unless it is gone; it stays readable, marked as deleted, until all that it owns is gone."""
        name = manifest["metadata"]["name"]
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": manifest["metadata"]["uid"]}}
        with translated_errors(f"deleting {self._name(name)}"):
            self._tolerate(
                lambda: self.cluster.custom.delete_namespaced_custom_object(*self._path, name, body=options),
                HTTPStatus.NOT_FOUND,
                HTTPStatus.CONFLICT,
            )

    def await_deleted(self, name: str, *, timeout_seconds: float) -> None:
        """Wait until there is no object of this name.

        Raises:
            ClusterError: there still is one after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.get(name) is not None:
            if time.monotonic() >= deadline:
                raise ClusterError(f"{self._name(name)} was deleted and is still there after {timeout_seconds:g} s.")
            time.sleep(_POLL_SECONDS)

    def _create(self, name: str, desired: Manifest) -> Manifest | None:
        with translated_errors(f"creating {self._name(name)}"):
            return self._tolerate(
                lambda: self.cluster.custom.create_namespaced_custom_object(*self._path, desired), HTTPStatus.CONFLICT
            )

    def _patch(self, current: Manifest, patch: Manifest) -> Manifest | None:
        name = current["metadata"]["name"]
        body = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": current["metadata"]["resourceVersion"]}}
        with translated_errors(f"patching {self._name(name)}"):
            return self._tolerate(
                lambda: self.cluster.custom.patch_namespaced_custom_object(*self._path, name, body), HTTPStatus.CONFLICT
            )

    @staticmethod
    def _tolerate(call: Callable[[], Manifest], *statuses: HTTPStatus) -> Manifest | None:
        """What `call` returns; None where the server answers with one of `statuses`."""
        from kubernetes.client import ApiException

        try:
            return call()
        except ApiException as error:
            if error.status in statuses:
                return None
            raise

    @property
    def _path(self) -> tuple[str, str, str, str]:
        return (self.kind.group, self.kind.version, self.namespace, self.kind.plural)

    def _name(self, name: str) -> str:
        return f"{self.kind.kind} {self.namespace}/{name}"


def merge_patch(
    current: Mapping[str, Any], desired: Mapping[str, Any], *, remove: Callable[[str], bool] | None = None, path: str = ""
) -> Manifest:
    """The JSON merge patch (RFC 7386) that makes `current` say what `desired` says; {} where it does.

    Fields that `desired` does not mention stay, but for those of which `remove` says by their path that they go. Lists are
    compared as wholes.
    """
    patch: Manifest = {}
    for key, value in desired.items():
        if isinstance(value, Mapping) and isinstance(current.get(key), Mapping):
            inner = merge_patch(current[key], value, remove=remove, path=f"{path}.{key}")
            if inner:
                patch[key] = inner
        elif key not in current or current[key] != value:
            patch[key] = value
    gone = [key for key in current if key not in desired and remove is not None and remove(f"{path}.{key}")]
    return patch | dict.fromkeys(gone)
