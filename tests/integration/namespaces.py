"""Namespaces that tests make, known by a label, so that those of a session that was killed are found and removed."""

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.integration.cluster import LiveCluster

OWNER_LABEL = "slipway.dev/tests-of"
"""On each of them: host and process of its session."""
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def own_label() -> dict[str, str]:
    """OWNER_LABEL with this session's value."""
    return {OWNER_LABEL: f"{socket.gethostname()[:40]}.{os.getpid()}"}


def own_selector() -> str:
    """Selects the namespaces of this session."""
    return ",".join(f"{key}={value}" for key, value in own_label().items())


def make_namespace(cluster: LiveCluster, name: str, labels: Mapping[str, str]) -> None:
    """A namespace that enforces Pod Security restricted."""
    metadata = {"name": name, "labels": {**_RESTRICTED, **labels}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def remove_leftovers(cluster: LiveCluster) -> None:
    """Delete the namespaces of sessions on this host that were killed."""
    host = own_label()[OWNER_LABEL].rpartition(".")[0]
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
