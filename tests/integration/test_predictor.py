"""The predictor's container as the ServingRuntime declares it, without KServe: what it may write, whose it is, how it ends."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import yaml

from slipway.export.bundle import Bundle, read_bundle
from slipway.serving.grpc.messages import ModelInferRequest, ModelInferResponse
from tests.bundles import write_image_bundle
from tests.integration.cluster import LiveCluster, Manifest, forwarded, wait_until
from tests.integration.platform import OVERLAY, ROOT, render
from tests.integration.pods import await_pod

NAME = "model"
USER = 12345
READY_SECONDS = 180
END_SECONDS = 60
LOOK = """
import os
print(os.getuid(), [path for path in ("/", "/etc", "/opt/venv", "/mnt/models", "/tmp", "/var/tmp") if os.access(path, os.W_OK)])
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_image_bundle(tmp_path / "bundle")
    return read_bundle(tmp_path / "bundle")


@pytest.fixture
def runtime(cluster: LiveCluster, tmp_path: Path) -> Manifest:
    """With the component `grpc`."""
    folder = (tmp_path / "overlay").resolve()
    folder.mkdir()
    component = ROOT / "manifests" / "components" / "grpc"
    kustomization = {"resources": [os.path.relpath(OVERLAY, folder)], "components": [os.path.relpath(component, folder)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (found,) = [one for one in render(cluster, folder) if one["kind"] == "ServingRuntime"]
    return found


def build_predictor(runtime: Manifest, image: str) -> dict[str, Any]:
    """The pod that KServe would make, but for its user, and its bundle, which is there already."""
    (container,) = json.loads(json.dumps(runtime["spec"]["containers"]).replace("{{.Name}}", NAME))
    container |= {"name": "main", "image": image}
    container["securityContext"] |= {"runAsUser": USER, "runAsGroup": USER}
    container["volumeMounts"].append({"name": "bundle", "mountPath": "/mnt/models", "readOnly": True})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "annotations": {"slipway.dev/version": "7"}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "predictor",
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [*runtime["spec"]["volumes"], {"name": "bundle", "configMap": {"name": "bundle"}}],
        },
    }


def bundle_as_config_map(bundle: Bundle) -> Manifest:
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in bundle.root.iterdir()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bundle"}, "binaryData": files}


def is_ready(cluster: LiveCluster, namespace: str) -> bool:
    status = cluster.get("pod", NAME, namespace)["status"]
    assert status["phase"] in ("Pending", "Running"), status
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))


def test_it_answers_on_a_read_only_file_system_as_any_user_and_ends_with_0(
    cluster: LiveCluster, bare_namespace: str, predictor_image: str, runtime: Manifest, bundle: Bundle
):
    security = runtime["spec"]["containers"][0]["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "predictor"}}
    objects = (account, bundle_as_config_map(bundle), build_predictor(runtime, predictor_image))
    cluster.apply(*objects, namespace=bare_namespace)
    wait_until("the predictor is ready", lambda: is_ready(cluster, bare_namespace), timeout_seconds=READY_SECONDS)
    pixels, expected = bundle.golden[0].inputs["image"], bundle.golden[0].outputs["probabilities"]

    with forwarded(cluster, bare_namespace, f"pod/{NAME}", 8080) as http:
        tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
        answer = httpx.post(f"{http.url}/v2/models/{NAME}/infer", json={"inputs": [tensor]}, timeout=30).json()
        assert answer["model_version"] == "7"
        np.testing.assert_allclose(answer["outputs"][0]["data"], expected.ravel(), atol=1e-5)

    with forwarded(cluster, bare_namespace, f"pod/{NAME}", 8081) as forward:
        request = ModelInferRequest(model_name=NAME, raw_input_contents=[pixels.tobytes()])
        request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
        with grpc.insecure_channel(forward.url.removeprefix("http://")) as channel:
            method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            told = ModelInferResponse.FromString(method(request.SerializeToString(), timeout=30, wait_for_ready=True))
        np.testing.assert_allclose(np.frombuffer(told.raw_output_contents[0], "<f4"), expected.ravel(), atol=1e-5)

    seen = cluster.kubectl("exec", NAME, f"--namespace={bare_namespace}", "--", "python", "-c", LOOK)
    assert seen.strip() == f"{USER} ['/tmp']"
    cluster.kubectl("exec", NAME, f"--namespace={bare_namespace}", "--", "sh", "-c", "kill -TERM 1")
    end = await_pod(cluster, bare_namespace, NAME, timeout_seconds=END_SECONDS)
    assert (end.exit_code, "Traceback" in end.log) == (0, False), end.log
