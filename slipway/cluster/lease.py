"""Letting one process in a cluster at a time do something: a Lease of the coordination API, as leader election uses it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from slipway.cluster.client import Cluster, translated_errors
from slipway.errors import ClusterError
from slipway.log import get_logger

LEASE_SECONDS = 15.0
"""Without a sign of life for so long, a holder is taken for dead. Clocks of different machines are never compared."""
_RENEWALS = 5
"""Signs of life in that time."""
_POLL_SECONDS = 0.5
_FENCE = 0.8
"""The holder stops before others may begin: its lease counts as lost after this part of the time."""

_log = get_logger(__name__)


class HeldLease:
    """A lease that this process holds, renewed by a thread."""

    def __init__(self, cluster: Cluster, namespace: str, lease: Any, lease_seconds: float) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name: str = lease.metadata.name
        self._holder: str = lease.spec.holder_identity
        self._version: str = lease.metadata.resource_version
        self._lease_seconds = lease_seconds
        self._renewed_at = time.monotonic()
        self._taken = False
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {self._name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See that the lease is still held. Call it before each effect that the lease is for.

        Raises:
            ClusterError: it was lost; another process may be at work.
        """
        if self._taken or time.monotonic() - self._renewed_at > _FENCE * self._lease_seconds:
            raise ClusterError(
                f"The lease {self._namespace}/{self._name} was lost: it could not be renewed in time, and another process may "
                "have begun. Nothing more was changed; start again."
            )

    def annotate(self, key: str, value: str) -> None:
        """Set an annotation of the Lease, which outlives the holding of it.

        Raises:
            ClusterError: the lease was lost, or the API server does not take it.
        """
        self.check()
        with translated_errors(f"annotating lease {self._namespace}/{self._name}"):
            self._patch({"metadata": {"annotations": {key: value}}})

    def release(self) -> None:
        """Let another process begin at once."""
        self._ended.set()
        self._thread.join(self._lease_seconds)
        if not self._taken:
            with suppress(ClusterError), translated_errors(f"releasing lease {self._namespace}/{self._name}"):
                self._patch({"spec": {"holderIdentity": None}})

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_seconds / _RENEWALS):
            asked_at = time.monotonic()  # others count from when the server took it, which an answer may tell late
            try:
                with translated_errors(f"renewing lease {self._namespace}/{self._name}"):
                    self._patch({"spec": {"renewTime": _now()}})
                self._renewed_at = asked_at
            except ClusterError as error:
                _log.warning("lease not renewed", lease=self._name, error=str(error))
                if self._taken:
                    return

    def _patch(self, change: dict[str, Any]) -> None:
        """Change the Lease if it is still this holder's; that others have changed it otherwise does no harm."""
        from kubernetes.client import ApiException

        with self._changing:
            try:
                self._send(change)
            except ApiException as error:
                if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                    raise
                found = _read(self._cluster, self._namespace, self._name)
                self._taken = found is None or found.spec.holder_identity != self._holder
                if self._taken:
                    raise
                self._version = found.metadata.resource_version
                self._send(change)

    def _send(self, change: dict[str, Any]) -> None:
        metadata = {**change.get("metadata", {}), "resourceVersion": self._version}
        changed = self._cluster.coordination.patch_namespaced_lease(self._name, self._namespace, {**change, "metadata": metadata})
        self._version = changed.metadata.resource_version


@contextmanager
def hold_lease(
    cluster: Cluster, namespace: str, name: str, *, holder: str, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS
) -> Iterator[HeldLease]:
    """Hold the Lease `name`, made where there is none, until the block ends. One whose holder has died is taken over.

    Args:
        cluster: Where the Lease lies.
        namespace: Of the Lease.
        name: Of the Lease.
        holder: Who holds it, unique to this process; for people who wonder.
        timeout_seconds: How long to wait for another holder to end.
        lease_seconds: How long the lease stays without being renewed.

    Raises:
        TimeoutError: another process held it all the time; the message names it.
        ClusterError: the API server cannot be reached, or refuses.
    """
    held = HeldLease(
        cluster, namespace, _acquire(cluster, namespace, name, holder, timeout_seconds, lease_seconds), lease_seconds
    )
    try:
        yield held
    finally:
        held.release()


def read_lease_annotations(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """The annotations of a Lease; {} where there is none."""
    lease = _read(cluster, namespace, name)
    return dict(lease.metadata.annotations or {}) if lease is not None else {}


def _acquire(cluster: Cluster, namespace: str, name: str, holder: str, timeout_seconds: float, lease_seconds: float) -> Any:
    deadline = time.monotonic() + timeout_seconds
    seen, seen_at = "", time.monotonic()
    while True:
        lease = _read(cluster, namespace, name)
        state = "" if lease is None else lease.metadata.resource_version
        if state != seen:
            seen, seen_at = state, time.monotonic()
        other = (lease.spec.holder_identity or "") if lease is not None and lease.spec is not None else ""
        expires = (lease.spec.lease_duration_seconds or lease_seconds) if other else 0.0
        if not other or time.monotonic() - seen_at > expires:
            taken = _take(cluster, namespace, name, lease, holder, lease_seconds)
            if taken is not None:
                if other:
                    _log.warning("lease taken over", lease=name, before=other)
                return taken
        elif time.monotonic() >= deadline:
            raise TimeoutError(f"the lease {namespace}/{name} is held by {other}, and was for {timeout_seconds:g} s.")
        time.sleep(_POLL_SECONDS)


def _read(cluster: Cluster, namespace: str, name: str) -> Any:
    try:
        with translated_errors(f"reading lease {namespace}/{name}"):
            return cluster.coordination.read_namespaced_lease(name, namespace)
    except ClusterError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _take(cluster: Cluster, namespace: str, name: str, lease: Any, holder: str, lease_seconds: float) -> Any:
    """The Lease in our name; None where another process was first."""
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": max(1, round(lease_seconds)),
        "acquireTime": _now(),
        "renewTime": _now(),
    }
    try:
        with translated_errors(f"taking lease {namespace}/{name}"):
            if lease is None:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
                return cluster.coordination.create_namespaced_lease(namespace, body)
            change = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
            return cluster.coordination.patch_namespaced_lease(name, namespace, change)
    except ClusterError as error:
        if error.status == HTTPStatus.CONFLICT:
            return None
        raise


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
