"""The images as pods: an ordinary user, a root file system that cannot be written, nothing to compile at start."""

import json
from collections.abc import Mapping

import pytest

from images.build import IMAGES, REGISTRY
from tests.integration.pods import build_pod, run_pod
from tests.integration.tenants import Tenant

OURS = ("pipeline", "trainer", "predictor")
ABSENT = {"pipeline": ("torch", "pandas"), "trainer": ("sklearn", "pandas"), "predictor": ("torch", "kfp", "mlflow", "pyarrow")}
IMPORTS = {
    "pipeline": (
        "slipway.stages.evaluate",
        "slipway.stages.deploy",
        "slipway.evaluation.report",
        "mlflow.tracking",
        "sklearn",
        "obstore",
    ),
    "trainer": ("slipway.stages.train", "slipway.training.run", "torchvision", "mlflow.tracking", "obstore"),
    "predictor": (
        "slipway.serving.__main__",
        "slipway.serving.process.server",
        "slipway.serving.grpc.server",
        "slipway.serving.observe.payload_log",
        "slipway.serving.observe.tracing",
        "slipway.storage.objects",
        "onnxruntime",
        "slipway.engines.openvino",
        "simplejpeg",
    ),
}
LOOK = """
import getpass, importlib, importlib.util, json, os, sys
for name in {imports}:
    importlib.import_module(name)
modules = [module for module in list(sys.modules.values()) if (getattr(module, "__file__", None) or "").startswith("/opt/venv")]
places = ("/", "/opt/venv", "/etc", "/tmp", os.path.expanduser("~"), os.getcwd())
print(json.dumps({{
    "user": [os.getuid(), os.getgid(), getpass.getuser()],
    "writable": sorted({{path for path in places if os.access(path, os.W_OK)}}),
    "present": [name for name in {absent} if importlib.util.find_spec(name)],
    "uncompiled": [one.__name__ for one in modules if getattr(one, "__cached__", None) and not os.path.exists(one.__cached__)],
}}))
"""
COMPONENT = """
from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output


def work(count: int, rows: Output[Dataset], metrics: Output[Metrics]) -> str:
    open(rows.path, "w").write("x" * count)
    rows.metadata["count"] = count
    metrics.log_metric("count", count)
    return "passed"
"""
EXECUTOR_INPUT = {
    "inputs": {"parameterValues": {"count": 3}},
    "outputs": {
        "outputFile": "/tmp/out.json",
        "parameters": {"Output": {"outputFile": "/tmp/Output"}},
        "artifacts": {
            name: {"artifacts": [{"name": name, "type": {"schemaTitle": title}, "uri": f"/tmp/artifacts/{name}"}]}
            for name, title in {"rows": "system.Dataset", "metrics": "system.Metrics"}.items()
        },
    },
}


def reference(images: Mapping[str, str], folder: str) -> str:
    name = f"{REGISTRY}/{IMAGES[folder]}"
    return f"{name}:{images[name]}"


@pytest.mark.parametrize("folder", OURS)
def test_an_image_runs_as_an_ordinary_user_with_nothing_to_write_but_tmp(shared_namespace: Tenant, images, folder):
    code = LOOK.format(imports=IMPORTS[folder], absent=ABSENT[folder])
    pod = build_pod(f"look-{folder}", reference(images, folder), ["python", "-c", code])
    end = run_pod(shared_namespace.cluster, shared_namespace.name, pod, timeout_seconds=300)
    assert end.exit_code == 0, end.log
    seen = json.loads(end.log.splitlines()[-1])
    assert seen["user"][0] == 1000
    assert seen["user"][2] == "slipway"
    assert seen["writable"] == ["/tmp"]
    assert seen["present"] == []
    assert seen["uncompiled"] == []


@pytest.mark.parametrize("folder", ["pipeline", "trainer"])
def test_a_task_image_runs_a_component_with_kfps_executor_alone(shared_namespace: Tenant, images, folder):
    script = (
        'printf "%s" "$0" > /tmp/component.py; '
        "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path /tmp/component.py --function_to_execute work "
        '--executor_input "$1" && cat /tmp/out.json'
    )
    command = ["sh", "-ec", script, COMPONENT, json.dumps(EXECUTOR_INPUT)]
    pod = build_pod(f"executor-{folder}", reference(images, folder), command)
    end = run_pod(shared_namespace.cluster, shared_namespace.name, pod, timeout_seconds=300)
    assert end.exit_code == 0, end.log
    output = json.loads(end.log.splitlines()[-1])
    assert output["parameterValues"] == {"Output": "passed"}
    assert output["artifacts"]["rows"]["artifacts"][0]["metadata"] == {"count": 3}
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"count": 3}
