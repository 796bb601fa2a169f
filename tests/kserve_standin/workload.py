"""From an InferenceService and its ServingRuntime to a Deployment and a Service."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from slipway.storage.files import hash_json

Manifest = dict[str, Any]
STORAGE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
HASH_ANNOTATION = "kserve-standin/desired"
INITIALIZER = "storage-initializer"
_MOUNT_PATH = "/mnt/models"
_VOLUME = "kserve-provision-location"
_NOT_COPIED = ("kubectl.kubernetes.io/last-applied-configuration",)
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_FETCH = """
import sys
from pathlib import Path
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri
uri, folder = sys.argv[1], Path(sys.argv[2])
storage = ObjectStorage(load_settings())
try:
    files = storage.list_files(uri)
    if not files:
        raise RuntimeError(f"Failed to fetch model. No model found in {uri}.")
    for file in files:
        storage.download_file(join_uri(uri, file.name), folder / file.name)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def predictor_name(service: Manifest) -> str:
    """The name of the Deployment and the Service of an InferenceService."""
    return f"{service['metadata']['name']}-predictor"


def build_deployment(service: Manifest, runtime: Manifest, account: Any, secrets: Mapping[str, Any], image: str) -> Manifest:
    """The Deployment that the controller wants, with a hash of all that decides it."""
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    name, uri = predictor_name(service), predictor["model"]["storageUri"]
    labels = {"app": f"isvc.{name}", "component": "predictor", SERVICE_LABEL: metadata["name"]}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key not in _NOT_COPIED}
    spec = {
        "replicas": predictor.get("minReplicas", 1),
        "selector": {"matchLabels": {"app": labels["app"]}},
        "strategy": predictor.get("deploymentStrategy", {}),
        "template": {
            "metadata": {
                "labels": {**metadata.get("labels", {}), **runtime["spec"].get("labels", {}), **labels},
                "annotations": {**annotations, **runtime["spec"].get("annotations", {}), STORAGE_ANNOTATION: uri},
            },
            "spec": _pod_spec(service, runtime, account, secrets, image),
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_owned(service, name, labels), "annotations": {HASH_ANNOTATION: hash_json(spec)}},
        "spec": spec,
    }


def build_service(service: Manifest, runtime: Manifest) -> Manifest:
    """The Service in front of the Deployment: the container's first port as 80, each further one under its own number."""
    name = predictor_name(service)
    first, *further = runtime["spec"]["containers"][0]["ports"]
    numbered = [(80, first), *((port["containerPort"], port) for port in further)]
    labels = {"app": f"isvc.{name}", "component": "predictor", SERVICE_LABEL: service["metadata"]["name"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(service, name, labels),
        "spec": {
            "selector": {"app": labels["app"]},
            "ports": [
                {"name": port["name"], "port": number, "targetPort": port["containerPort"], "protocol": port["protocol"]}
                for number, port in numbered
            ],
        },
    }


def _owned(service: Manifest, name: str, labels: Mapping[str, str]) -> Manifest:
    metadata = service["metadata"]
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": metadata["namespace"], "labels": dict(labels), "ownerReferences": [owner]}


def _pod_spec(service: Manifest, runtime: Manifest, account: Any, secrets: Mapping[str, Any], image: str) -> Manifest:
    predictor = service["spec"]["predictor"]
    own = ("model", "minReplicas", "maxReplicas", "deploymentStrategy", "scaleMetric", "scaleTarget", "labels", "annotations")
    pod = {key: value for key, value in runtime["spec"].items() if key in ("volumes", "nodeSelector", "tolerations", "affinity")}
    pod |= {key: value for key, value in predictor.items() if key not in own}
    containers = _render(runtime["spec"]["containers"], service)
    for container in containers:
        if container["name"] == "kserve-container":
            mounts = container.setdefault("volumeMounts", [])
            mounts.append({"name": _VOLUME, "mountPath": _MOUNT_PATH, "readOnly": True})
            container.setdefault("resources", {}).update(predictor["model"].get("resources", {}))
            container["env"] = [*container.get("env", []), *predictor["model"].get("env", [])]
            container["args"] = [*container.get("args", []), *predictor["model"].get("args", [])]
    initializer = {
        "name": INITIALIZER,
        "image": image,
        "command": ["python", "-c", _FETCH],
        "args": [predictor["model"]["storageUri"], _MOUNT_PATH],
        "env": _credentials(account, secrets),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": _VOLUME, "mountPath": _MOUNT_PATH}],
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": _RESTRICTED,
    }
    volumes = [*pod.pop("volumes", []), {"name": _VOLUME, "emptyDir": {}}]
    return {**pod, "initContainers": [initializer], "containers": containers, "volumes": volumes}


def _render(containers: list[Manifest], service: Manifest) -> list[Manifest]:
    """Fill in {{.Name}} and its like, as the real controller does for the whole container."""
    text = json.dumps(containers)
    values = {"Name": service["metadata"]["name"], "Namespace": service["metadata"]["namespace"]}
    rendered = re.sub(r"\{\{\s*\.(\w+)\s*\}\}", lambda match: values[match.group(1)], text)
    found: list[Manifest] = json.loads(rendered)
    return found


def _credentials(account: Any, secrets: Mapping[str, Any]) -> list[Manifest]:
    """The environment that KServe makes of the service account's first S3 secret."""
    for reference in account.secrets or []:
        secret = secrets.get(reference.name)
        if secret is None or "AWS_ACCESS_KEY_ID" not in (secret.data or {}):
            continue
        notes = {key.rpartition("/")[2]: value for key, value in (secret.metadata.annotations or {}).items()}
        scheme = "https" if notes.get("s3-usehttps", "1") == "1" else "http"
        keys = [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": key}}}
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        ]
        endpoint = notes.get("s3-endpoint", "")
        return [
            *keys,
            {"name": "S3_ENDPOINT", "value": endpoint},
            {"name": "AWS_ENDPOINT_URL", "value": f"{scheme}://{endpoint}"},
            {"name": "AWS_DEFAULT_REGION", "value": notes.get("s3-region", "us-east-1")},
        ]
    return []


def is_known_scheme(uri: str) -> bool:
    """Whether KServe has an initializer for it."""
    return urlsplit(uri).scheme in ("s3", "gs", "https", "http", "pvc", "hf", "hdfs", "webhdfs", "oci")
