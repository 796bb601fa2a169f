"""KServe's status of an InferenceService, from what its Deployment and pods say."""

from datetime import UTC, datetime
from typing import Any

from tests.kserve_standin.workload import INITIALIZER, Manifest, predictor_name

_DOMAIN = "example.com"


def status_of(service: Manifest, deployment: Any, pods: list[Any]) -> Manifest:
    """What the controller writes; conditions keep their times where nothing changes."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    before = service.get("status", {})
    available = deployment is not None and any(
        condition.type == "Available" and condition.status == "True" for condition in deployment.status.conditions or []
    )
    host = f"{predictor_name(service)}.{namespace}.svc.cluster.local"
    conditions = {"PredictorReady": available, "IngressReady": True, "Ready": available}
    return {
        "url": f"http://{name}-{namespace}.{_DOMAIN}",
        "address": {"url": f"http://{host}"},
        "deploymentMode": "Standard",
        "components": {"predictor": {"url": f"http://{predictor_name(service)}-{namespace}.{_DOMAIN}"}},
        "observedGeneration": deployment.status.observed_generation if deployment is not None else 0,
        "conditions": [_condition(before, kind, value) for kind, value in sorted(conditions.items())],
        "modelStatus": _model_status(before.get("modelStatus", {}), available, deployment, pods),
    }


def invalid_status(service: Manifest, message: str) -> Manifest:
    """What the controller writes where the specification cannot be carried out; the rest stays."""
    before = service.get("status", {})
    failure = {"reason": "RuntimeNotRecognized", "message": message, "time": _now()}
    old = before.get("modelStatus", {}).get("lastFailureInfo", {})
    if {key: old.get(key) for key in ("reason", "message")} == {key: failure[key] for key in ("reason", "message")}:
        failure = old
    states = before.get("modelStatus", {}).get("states", {"activeModelState": "", "targetModelState": "Pending"})
    return {
        **before,
        "conditions": [_condition(before, kind, False) for kind in ("PredictorReady", "Ready")]
        if not before.get("conditions")
        else before["conditions"],
        "modelStatus": {"transitionStatus": "InvalidSpec", "states": states, "lastFailureInfo": failure},
    }


def _model_status(before: Manifest, available: bool, deployment: Any, pods: list[Any]) -> Manifest:
    failure = before.get("lastFailureInfo")
    kept = {"lastFailureInfo": failure} if failure else {}
    active = "Loaded" if available else ""
    copies = {"totalCopies": len(pods), "failedCopies": 0}
    newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp, default=None)
    ended = _initializer_failure(newest) if newest is not None else None
    if ended is not None:
        found = {
            "exitCode": ended.exit_code,
            "location": newest.metadata.name,
            "message": (ended.message or "").strip(),
            "reason": "ModelLoadFailed",
            "time": ended.finished_at.isoformat(),
        }
        return {
            "transitionStatus": "BlockedByFailedLoad",
            "states": {"activeModelState": active, "targetModelState": "FailedToLoad"},
            "copies": {**copies, "failedCopies": 1},
            "lastFailureInfo": found,
        }
    status = deployment.status if deployment is not None else None
    complete = status is not None and status.updated_replicas == status.replicas == status.available_replicas
    if complete:
        states, transition = {"activeModelState": "Loaded", "targetModelState": "Loaded"}, "UpToDate"
    else:
        states, transition = {"activeModelState": active, "targetModelState": "Loading" if pods else "Pending"}, "InProgress"
    return {"transitionStatus": transition, "states": states, "copies": copies, **kept}


def _initializer_failure(pod: Any) -> Any:
    for status in pod.status.init_container_statuses or []:
        if status.name != INITIALIZER:
            continue
        if status.state.terminated is not None and status.state.terminated.exit_code:
            return status.state.terminated
        waiting = status.state.waiting
        if waiting is not None and waiting.reason == "CrashLoopBackOff" and status.last_state is not None:
            return status.last_state.terminated
    return None


def _condition(before: Manifest, kind: str, value: bool) -> Manifest:
    status = "True" if value else "False"
    for condition in before.get("conditions", []):
        if condition["type"] == kind and condition["status"] == status:
            kept: Manifest = condition
            return kept
    return {"type": kind, "status": status, "lastTransitionTime": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
