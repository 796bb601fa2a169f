"""What the cluster's controllers and kubelets warn of."""

from datetime import datetime
from typing import TYPE_CHECKING

from slipway.cluster.client import Cluster, translated_errors

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Event


def list_warnings(cluster: Cluster, namespace: str, *, about: str = "") -> "list[CoreV1Event]":
    """The warnings of a namespace; with `about`, those of the objects of this name."""
    selector = f"involvedObject.name={about},type=Warning" if about else "type=Warning"
    with translated_errors(f"listing events of {namespace}"):
        events: list[CoreV1Event] = cluster.core.list_namespaced_event(namespace, field_selector=selector).items
    return events


def last_seen(event: "CoreV1Event") -> datetime | None:
    """When it was seen last, by the control plane's clock; which field says so depends on who wrote it."""
    repeated = event.series.last_observed_time if event.series else None
    seen: datetime | None = repeated or event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return seen
