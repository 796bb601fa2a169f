"""A launching pod as KFP makes it, and what is planned from it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from slipway.launch.worker_pod import WorkerNeeds, WorkerPod
from slipway.launch.workload import WorkloadPlan, name_workload

RUN_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
KEY = "0123456789abcdef0123456789abcdef"

LAUNCHER: dict[str, Any] = {
    "metadata": {"name": "slipway-training-abc-system-container-impl-1", "labels": {"pipeline/runid": RUN_ID}},
    "spec": {
        "serviceAccountName": "pipeline-runner",
        "nodeSelector": {"pool": "batch"},
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"},
        ],
        "securityContext": {"fsGroup": 2000},
        "containers": [
            {"name": "wait", "image": "quay.io/argoproj/argoexec:v4.0.5"},
            {
                "name": "main",
                "image": "ghcr.io/slipway/slipway-trainer-python:0.1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["/kfp-launcher/launch"],
                "env": [
                    {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "SLIPWAY_RUN_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}}},
                    {"name": "ARGO_TEMPLATE", "value": "{}"},
                    {"name": "MLFLOW_RUN_ID", "value": "0123"},
                    {"name": "SLIPWAY_WORKER_POD", "value": "{}"},
                    {"name": "SLIPWAY_LOG_FORMAT", "value": "json"},
                    {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                    {"name": "AWS_REGION", "valueFrom": {"configMapKeyRef": {"name": "slipway", "key": "AWS_REGION"}}},
                    {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "slipway-s3", "key": "S"}}},
                ],
                "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "2Gi"}},
                "securityContext": {"runAsUser": 1234, "runAsNonRoot": True},
                "volumeMounts": [
                    {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
                    {"name": "ca", "mountPath": "/etc/ssl/own", "readOnly": True},
                    {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
                ],
            },
        ],
        "volumes": [
            {"name": "kfp-launcher", "emptyDir": {}},
            {"name": "ca", "configMap": {"name": "own-ca"}},
            {"name": "unmounted", "secret": {"secretName": "other"}},
            {"name": "kube-api-access-x", "projected": {"sources": []}},
        ],
    },
}

MakePlan = Callable[..., WorkloadPlan]


@pytest.fixture
def launcher() -> dict[str, Any]:
    return copy.deepcopy(LAUNCHER)


@pytest.fixture
def make_plan(launcher: dict[str, Any]) -> MakePlan:
    def make(needs: WorkerNeeds | None = None, **changes: Any) -> WorkloadPlan:
        default = WorkerNeeds(resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}})
        planned = {
            "name": name_workload(RUN_ID, KEY),
            "training_key": KEY,
            "run_id": RUN_ID,
            "work_uri": "s3://slipway/state/work/train/0123",
            "meeting": "m",
            "num_nodes": 2,
            "num_processes": 1,
            "max_restarts": 3,
            "owner": {"apiVersion": "v1", "kind": "Pod", "name": "launcher", "uid": "1-2-3"},
            "pod": WorkerPod.from_launcher(launcher, needs or default),
            "timeout_seconds": 3600,
        }
        return WorkloadPlan(**{**planned, **changes})

    return make
