"""Waiting until an InferenceService's pods are those of its latest change, and seeing early when they will never be.

The InferenceService's own status does not say it: Ready stays True while the old pods serve, and its observedGeneration is the
Deployment's. So the Deployment is looked at, and of the pods only those that the change has made.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipway.cluster.client import Cluster, translated_errors
from slipway.cluster.events import last_seen, list_warnings
from slipway.cluster.pods import PodProblem, find_problem, list_pods, names_no_image, read_log_tail
from slipway.cluster.resources import CustomResources, Manifest
from slipway.deploy.inference_service import PROMOTED_AT
from slipway.errors import ClusterError, DeployError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Event, V1Deployment, V1Pod

STORAGE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
_POLL_SECONDS = 0.25
_MAX_RESTARTS = 2
_PATIENCE_SECONDS = {
    "crash": 0.0,
    "load": 1.0,  # KServe's word for a change that came before may still stand for a moment
    "invalid": 2.0,
    "image": 4.0,
    "configuration": 4.0,
    "refused": 4.0,
    "failed": 4.0,
    "event": 8.0,
    "unschedulable": 15.0,
}
"""How long each kind of trouble must last before it ends the wait: some mend themselves."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The change that is waited for."""

    name: str
    """Of the InferenceService."""
    uid: str
    storage_uri: str
    promoted_at: str


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a look at the cluster shows."""

    service: Manifest
    deployment: "V1Deployment | None"
    pods: "tuple[V1Pod, ...]"
    """Those that the change has made."""
    warnings: tuple[str, ...] = ()
    """What events say of the InferenceService and what belongs to it, since the wait began."""
    missing_images: tuple[str, ...] = ()
    """What events say of images that the pods' node looked for and that do not exist, as `pod NAME: MESSAGE`.

    A kubelet says so at once there, and in the pod's status at its next look at the pod: 10 to 15 s later.
    """


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that, if it lasts, means that the change will never serve."""

    kind: str
    text: str
    pod: str = ""
    container: str = ""
    restarted: bool = False


def deployment_name(service: Manifest) -> str:
    """The Deployment behind an InferenceService: named like the Service that its address leads to."""
    host = urlsplit(service.get("status", {}).get("address", {}).get("url", "")).hostname
    return host.partition(".")[0] if host else f"{service['metadata']['name']}-predictor"


def is_made_by(wanted: Wanted, annotations: Mapping[str, str] | None) -> bool:
    """Whether a pod, or a Deployment's template, with these annotations is of the change."""
    given = annotations or {}
    return given.get(STORAGE_ANNOTATION) == wanted.storage_uri and given.get(PROMOTED_AT) == wanted.promoted_at


def is_complete(wanted: Wanted, sight: Sight) -> bool:
    """Whether all pods that serve are of the change, and available."""
    deployment = sight.deployment
    if deployment is None or not is_made_by(wanted, deployment.spec.template.metadata.annotations):
        return False
    status, replicas = deployment.status, deployment.spec.replicas
    current = status.observed_generation == deployment.metadata.generation
    return bool(current and replicas == status.updated_replicas == status.replicas == status.available_replicas)


def find_troubles(wanted: Wanted, sight: Sight) -> Iterator[Trouble]:
    """All that keeps the change from serving, the most telling first."""
    for pod in sight.pods:
        yield from _pod_troubles(pod)
    for message in sight.missing_images:
        yield Trouble(kind="image", text=message)
    model = sight.service.get("status", {}).get("modelStatus", {})
    failure = model.get("lastFailureInfo", {})
    said = " ".join(str(failure[key]) for key in ("reason", "message") if failure.get(key)).strip()
    matches = sight.deployment is not None and is_made_by(wanted, sight.deployment.spec.template.metadata.annotations)
    if matches and model.get("transitionStatus") == "BlockedByFailedLoad":
        yield Trouble(kind="load", text=f"its bundle was not loaded from {wanted.storage_uri}: {said}")
    if model.get("transitionStatus") == "InvalidSpec":
        yield Trouble(kind="invalid", text=f"KServe does not take its specification: {said}{_name_runtime(sight.service)}")
    if matches and sight.deployment is not None:
        for condition in sight.deployment.status.conditions or []:
            if condition.type == "ReplicaFailure" and condition.status == "True":
                yield Trouble(kind="refused", text=f"its pods are refused: {condition.message}")
    if not matches and sight.warnings:
        yield Trouble(kind="event", text=f"KServe does not carry it out: {' '.join(sight.warnings)}")


def _name_runtime(service: Manifest) -> str:
    runtime = service["spec"]["predictor"].get("model", {}).get("runtime", "")
    return f" (ServingRuntime {runtime!r}; kubectl get servingruntimes lists those that there are)" if runtime else ""


def _pod_troubles(pod: "V1Pod") -> Iterator[Trouble]:
    problem = find_problem(pod)
    if problem is not None and (problem.kind != "crash" or problem.restarts or _is_initializer(pod, problem.container)):
        yield _to_trouble(pod, problem)
    for status in pod.status.container_statuses or []:
        if status.restart_count >= _MAX_RESTARTS:
            yield Trouble(
                kind="crash",
                text=f"pod {pod.metadata.name} was restarted {status.restart_count} times",
                pod=pod.metadata.name,
                container=status.name,
                restarted=True,
            )


def _to_trouble(pod: "V1Pod", problem: PodProblem) -> Trouble:
    initializer = problem.kind == "crash" and _is_initializer(pod, problem.container)
    return Trouble(
        kind="load" if initializer else problem.kind,
        text=str(problem),
        pod=problem.pod,
        container=problem.container,
        restarted=problem.restarts > 0 and problem.reason == "CrashLoopBackOff",
    )


def _is_initializer(pod: "V1Pod", container: str) -> bool:
    return any(one.name == container for one in pod.spec.init_containers or [])


@dataclass
class _Patience:
    """Since when each kind of trouble has lasted without a break."""

    since: dict[str, float] = field(default_factory=dict)

    def lose(self, troubles: list[Trouble], now: float) -> Trouble | None:
        """The first trouble that has lasted too long."""
        kinds = {trouble.kind for trouble in troubles}
        self.since = {kind: self.since.get(kind, now) for kind in kinds}
        return next((one for one in troubles if now - self.since[one.kind] >= _PATIENCE_SECONDS[one.kind]), None)


def await_rollout(
    services: CustomResources, wanted: Wanted, *, timeout_seconds: float, check: Callable[[], None] = lambda: None
) -> Manifest:
    """Wait until the change serves.

    Args:
        services: Where the InferenceService lies.
        wanted: The change.
        timeout_seconds: Bound of the wait.
        check: Called at each look; raises where the wait has become pointless.

    Returns:
        The InferenceService as it is then.

    Raises:
        DeployError: it will never serve, or did not in time; the message has the cluster's own words and the log's end.
    """
    begun_at, began = datetime.now(UTC), time.monotonic()
    patience = _Patience()
    while True:
        check()
        sight = look(services, wanted, since=begun_at if time.monotonic() - began > _PATIENCE_SECONDS["event"] / 2 else None)
        if is_complete(wanted, sight):
            return sight.service
        troubles = list(find_troubles(wanted, sight))
        lasting = patience.lose(troubles, time.monotonic())
        if lasting is not None:
            raise DeployError(f"{wanted.name} does not come up: {_tell(services, lasting)}")
        if time.monotonic() - began >= timeout_seconds:
            seen = _tell(services, troubles[0]) if troubles else _count(sight)
            raise DeployError(f"{wanted.name} was not ready after {timeout_seconds:g} s (deploy.timeout_seconds): {seen}")
        time.sleep(_POLL_SECONDS)


def look(services: CustomResources, wanted: Wanted, *, since: datetime | None = None) -> Sight:
    """See the InferenceService, its Deployment and the pods of the change; with `since`, also warnings from then on.

    Raises:
        DeployError: the InferenceService is gone.
    """
    service = services.get(wanted.name)
    if service is None or service["metadata"]["uid"] != wanted.uid or "deletionTimestamp" in service["metadata"]:
        raise DeployError(f"InferenceService {services.namespace}/{wanted.name} was deleted by someone else.")
    deployment = _read_deployment(services.cluster, services.namespace, deployment_name(service))
    pods: tuple[V1Pod, ...] = ()
    if deployment is not None:
        selector = ",".join(f"{key}={value}" for key, value in deployment.spec.selector.match_labels.items())
        found = list_pods(services.cluster, services.namespace, selector)
        pods = tuple(
            pod for pod in found if is_made_by(wanted, pod.metadata.annotations) and pod.metadata.deletion_timestamp is None
        )
    events = _list_warnings(services, since) if since is not None else []
    return Sight(
        service=service,
        deployment=deployment,
        pods=pods,
        warnings=tuple(f"{event.reason}: {event.message}" for event in events if _is_about(wanted.name, event)),
        missing_images=tuple(find_missing_images(pods, events)),
    )


def count_restarts(sight: Sight) -> int:
    """How often the containers of the change's pods were started again, all together."""
    return sum(status.restart_count for pod in sight.pods for status in pod.status.container_statuses or [])


def _read_deployment(cluster: Cluster, namespace: str, name: str) -> "V1Deployment | None":
    try:
        with translated_errors(f"reading Deployment {namespace}/{name}"):
            return cluster.apps.read_namespaced_deployment(name, namespace)
    except ClusterError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _list_warnings(services: CustomResources, since: datetime) -> "list[CoreV1Event]":
    events = list_warnings(services.cluster, services.namespace)
    begun = since.replace(microsecond=0)
    return [event for event in events if (seen := last_seen(event)) is not None and seen.replace(microsecond=0) >= begun]


def _is_about(name: str, event: "CoreV1Event") -> bool:
    about = event.involved_object.name or ""
    return bool(about == name or about.startswith(f"{name}-predictor"))


def find_missing_images(pods: "Sequence[V1Pod]", events: "Sequence[CoreV1Event]") -> Iterator[str]:
    """What events say of images of pods that still wait for their containers, where the images do not exist."""
    waiting = {
        pod.metadata.uid: pod.metadata.name
        for pod in pods
        if any(status.state.waiting is not None for status in pod.status.container_statuses or [])
    }
    for event in events:
        name = waiting.get(event.involved_object.uid)
        if name is not None and event.reason == "Failed" and "pull image" in event.message and names_no_image(event.message):
            yield f"pod {name}: {event.message}"


def _tell(services: CustomResources, trouble: Trouble) -> str:
    if not trouble.pod or not trouble.container:
        return trouble.text
    log = ""
    for previous in (trouble.restarted, not trouble.restarted):
        log = log or read_log_tail(services.cluster, services.namespace, trouble.pod, trouble.container, previous=previous)
    return f"{trouble.text}. The end of its log: {log}" if log and log not in trouble.text else trouble.text


def _count(sight: Sight) -> str:
    if sight.deployment is None:
        return "there is no Deployment for it. Is the KServe controller running? `slipway doctor --target kserve` looks."
    status = sight.deployment.status
    return (
        f"of {sight.deployment.spec.replicas} pods {status.updated_replicas or 0} are new and "
        f"{status.available_replicas or 0} available; {len(sight.pods)} of the change exist."
    )
