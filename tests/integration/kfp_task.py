"""One task of a compiled pipeline as the pod that KFP 2.17 makes of it.

No KFP backend can be installed on the development machine's cluster. This stands in for its driver and launcher, for one task:
image, command, resources, environment, volumes, user and time limit are those of the compiled file; the service account, the
labels, the hardening of the container, the scratch folders and the form of the executor input are KFP's. Not there: caching,
retries, the metadata server, Argo's own containers. `tests/kfp` runs the same file on a real KFP.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.cluster import Manifest

PIPELINE_ROOT = "s3://mlpipeline/v2/artifacts"
LAUNCHER_CONFIG_MAP = "kfp-launcher-stand-in"
_LAUNCHER = Path(__file__).with_name("kfp_launcher.py")
_SCRATCH = {"s3-scratch": "/s3", "gcs-scratch": "/gcs", "minio-scratch": "/minio"} | {
    f"dot-{name}-scratch": f"/.{name}" for name in ("local", "cache", "config")
}


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact between two tasks."""

    name: str
    uri: str
    type: Mapping[str, str]
    metadata: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it stands in an executor input."""
        return {"name": self.name, "uri": self.uri, "type": dict(self.type), "metadata": dict(self.metadata)}


@dataclass(frozen=True, kw_only=True)
class TaskCall:
    """A task with what it is called with."""

    name: str
    executor: Mapping[str, Any]
    """`container` of the compiled file."""
    platform: Mapping[str, Any]
    """What kfp-kubernetes has added."""
    outputs: Mapping[str, Any]
    """`outputDefinitions` of its component."""
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Artifact]
    folder: str
    """URI of the folder that its outputs go to."""

    @property
    def output_uri(self) -> str:
        """Where the stand-in keeps what the component says of its outputs."""
        return f"{self.folder}/executor_output.json"

    def declared_outputs(self) -> dict[str, Artifact]:
        """The artifacts that it is to write."""
        return {
            name: Artifact(name=name, uri=f"{self.folder}/{name}", type=definition["artifactType"], metadata={})
            for name, definition in self.outputs.get("artifacts", {}).items()
        }

    def executor_input(self) -> dict[str, Any]:
        """What the component is told, in KFP's form."""
        parameters = {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in self.outputs.get("parameters", {})}
        return {
            "inputs": {"parameterValues": dict(self.parameters), "artifacts": _list_artifacts(self.artifacts)},
            "outputs": {
                "parameters": parameters,
                "artifacts": _list_artifacts(self.declared_outputs()),
                "outputFile": "/tmp/kfp_outputs/output_metadata.json",
                "standInUri": self.output_uri,
            },
        }


def _list_artifacts(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return {name: {"artifacts": [artifact.to_json()]} for name, artifact in artifacts.items()}


def launcher_config_map() -> Manifest:
    """What the pods of `build_task_pod` mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": LAUNCHER_CONFIG_MAP},
        "data": {"launcher.py": _LAUNCHER.read_text()},
    }


def build_task_pod(call: TaskCall, *, pod_name: str, run_id: str) -> dict[str, Any]:
    """The task's pod."""
    executor, platform = call.executor, call.platform
    command = [*executor["command"], *executor["args"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name, "labels": {"pipeline/runid": run_id, "pipelines.kubeflow.org/v2_component": "true"}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "pipeline-runner",
            "activeDeadlineSeconds": int(platform["activeDeadlineSeconds"]),
            "tolerations": platform.get("tolerations", []),
            "nodeSelector": platform.get("nodeSelector", {}).get("labels", {}),
            "containers": [
                {
                    "name": "main",
                    "image": executor["image"],
                    "command": ["python3", "/kfp-launcher/launcher.py", json.dumps(call.executor_input())],
                    "args": command,
                    "env": list(_list_environment(executor, platform)),
                    "resources": _describe_resources(executor["resources"]),
                    "securityContext": _describe_security(platform["securityContext"]),
                    "volumeMounts": [
                        {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
                        *({"name": name, "mountPath": path} for name, path in _SCRATCH.items()),
                        *(
                            {"name": mount["volumeName"], "mountPath": mount["mountPath"]}
                            for mount in platform.get("emptyDirMounts", [])
                        ),
                    ],
                }
            ],
            "volumes": [
                {"name": "kfp-launcher", "configMap": {"name": LAUNCHER_CONFIG_MAP}},
                *({"name": name, "emptyDir": {}} for name in _SCRATCH),
                *(_describe_empty_dir(mount) for mount in platform.get("emptyDirMounts", [])),
            ],
        },
    }


def _list_environment(executor: Mapping[str, Any], platform: Mapping[str, Any]) -> Iterator[Manifest]:
    yield from executor.get("env", [])
    yield {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    yield {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    for field in platform.get("fieldPathAsEnv", []):
        yield {"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}}
    for source, name, key, reference in (
        ("configMapAsEnv", "configMapName", "configMapKey", "configMapKeyRef"),
        ("secretAsEnv", "secretName", "secretKey", "secretKeyRef"),
    ):
        for one in platform.get(source, []):
            for pair in one["keyToEnv"]:
                chosen = {"name": one[name], "key": pair[key], "optional": one.get("optional", False)}
                yield {"name": pair["envVar"], "valueFrom": {reference: chosen}}


def _describe_resources(resources: Mapping[str, Any]) -> Manifest:
    limits = {"cpu": resources["resourceCpuLimit"], "memory": resources["resourceMemoryLimit"]}
    accelerator = resources.get("accelerator")
    if accelerator:
        limits[accelerator["resourceType"]] = accelerator["resourceCount"]
    requests = {"cpu": resources["resourceCpuRequest"], "memory": resources["resourceMemoryRequest"]}
    return {"limits": limits, "requests": requests}


def _describe_security(context: Mapping[str, Any]) -> Manifest:
    return {
        "runAsUser": int(context["runAsUser"]),
        "runAsNonRoot": context["runAsNonRoot"],
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _describe_empty_dir(mount: Mapping[str, Any]) -> Manifest:
    chosen = {key: mount[key] for key in ("medium", "sizeLimit") if mount.get(key)}
    return {"name": mount["volumeName"], "emptyDir": chosen}
