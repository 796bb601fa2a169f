"""What NetworkPolicies let through, by the rules of the API: policies add up, and a pod that none selects is open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.contract.tools import Manifest

Direction = Literal["Ingress", "Egress"]
_PEERS = {"Ingress": "from", "Egress": "to"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A pod; or, without labels and namespace, an address outside of the cluster, or the API server's."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Its named ports."""

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """With the one that every namespace has."""
        return {**self.namespace_labels, "kubernetes.io/metadata.name": self.namespace}


def is_let_through(policies: Sequence[Manifest], source: Endpoint, target: Endpoint, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to `target`."""
    return _passes(policies, "Egress", source, target, target, port, protocol) and _passes(
        policies, "Ingress", target, source, target, port, protocol
    )


def _passes(
    policies: Sequence[Manifest],
    direction: Direction,
    subject: Endpoint,
    peer: Endpoint,
    listener: Endpoint,
    port: int,
    protocol: str,
) -> bool:
    applying = [
        one["spec"]
        for one in policies
        if one["metadata"]["namespace"] == subject.namespace
        and direction in one["spec"]["policyTypes"]
        and matches(one["spec"]["podSelector"], subject.labels)
    ]
    return not applying or any(
        _rule_covers(rule, direction, subject.namespace, peer, listener, port, protocol)
        for spec in applying
        for rule in spec.get(direction.lower(), [])
    )


def _rule_covers(
    rule: Manifest, direction: Direction, namespace: str, peer: Endpoint, listener: Endpoint, port: int, protocol: str
) -> bool:
    ports = rule.get("ports")
    if ports is not None and not any(
        listener.ports.get(one["port"], one["port"]) == port and one.get("protocol", "TCP") == protocol for one in ports
    ):
        return False
    peers = rule.get(_PEERS[direction])
    return peers is None or any(_is_peer(one, namespace, peer) for one in peers)


def _is_peer(selector: Manifest, namespace: str, peer: Endpoint) -> bool:
    if "ipBlock" in selector or not peer.namespace:
        return False
    if "namespaceSelector" in selector:
        if not matches(selector["namespaceSelector"], peer.all_namespace_labels):
            return False
    elif peer.namespace != namespace:
        return False
    return matches(selector.get("podSelector", {}), peer.labels)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(one, labels) for one in selector.get("matchExpressions", [])
    )


def _holds(expression: Manifest, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", [])
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]


def find_policies(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The NetworkPolicies."""
    return [one for one in manifests if one["kind"] == "NetworkPolicy"]
