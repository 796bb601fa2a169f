"""What each overlay and component makes different."""

import re

from pipelines.resources import CONFIG_MAP
from slipway.serving.process.options import load_options
from slipway.settings import load_settings
from tests.contract.objects import kinds, named
from tests.contract.pod_rules import find_pods
from tests.contract.tools import MANIFESTS, build, build_with, validate


def test_predictors_answer_over_grpc_where_the_component_says_so(schemas, tmp_path):
    """At a port of its own after HTTP's: KServe makes the first one port 80 of the Service."""
    built = build_with(MANIFESTS, tmp_path, "grpc")
    assert validate(built, schemas) == []
    for manifests, protocols, ports in (
        (build(MANIFESTS), ["v1", "v2"], [("http", 8080)]),
        (built, ["v1", "v2", "grpc-v2"], [("http", 8080), ("h2c", 8081)]),
    ):
        runtime = named(manifests, "ServingRuntime", "slipway")["spec"]
        (container,) = runtime["containers"]
        options = load_options([one.replace("{{.Name}}", "model") for one in container["args"]], load_settings({}))
        assert runtime["protocolVersions"] == protocols
        assert [(port["name"], port["containerPort"]) for port in container["ports"]] == ports
        assert [port for port in (options.port, options.grpc_port) if port > 0] == [port for _, port in ports]


def test_the_production_overlay_has_no_store_of_its_own():
    production = build(MANIFESTS / "overlays" / "production")
    stores = {pair for pair in kinds(production) if re.search("minio|postgres|seaweed|buckets", pair[1])}
    assert stores == set()
    assert not [one for one in production if one["kind"] in ("StatefulSet", "PersistentVolumeClaim")]
    left_out = kinds(build(MANIFESTS)) - kinds(production)
    assert all(re.search("minio|postgres|object-store|buckets", name) for _, name in left_out), left_out
    assert named(production, "Deployment", "mlflow")["spec"]["replicas"] >= 2


def test_what_tasks_need_in_kubeflow_can_be_applied_alone(schemas):
    """Where KFP is there already: settings and rights, nothing of KFP's own, nothing remote."""
    for folder, quotas in (("kubeflow", set()), ("overlays/gpu/kubeflow", {("ResourceQuota", "gpus")})):
        objects = build(MANIFESTS / folder)
        alone = {("ConfigMap", CONFIG_MAP), ("Role", "slipway-tasks"), ("RoleBinding", "slipway-tasks")}
        assert kinds(objects) == alone | quotas
        assert {one["metadata"]["namespace"] for one in objects} == {"kubeflow"}
        assert validate(objects, schemas) == []


def test_gpus_are_bounded_where_pods_run_that_ask_for_them():
    """KFP's tasks and the workers that they launch run in kubeflow; a quota of the platform's namespace does not count them."""
    for folder, namespace in (("gpu", "slipway"), ("gpu/kubeflow", "kubeflow")):
        quota = named(build(MANIFESTS / "overlays" / folder), "ResourceQuota", "gpus")
        assert quota["metadata"]["namespace"] == namespace
        assert int(quota["spec"]["hard"]["requests.nvidia.com/gpu"]) > 0


def test_the_gpu_overlay_places_training_on_gpu_nodes():
    gpu = build(MANIFESTS / "overlays" / "gpu")
    (workers,) = [pods for pods in find_pods(gpu) if pods.owner == "ClusterTrainingRuntime/slipway"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in workers.spec["tolerations"]
    assert workers.spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    memory = {
        one["name"]: one["emptyDir"] for one in workers.spec["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"
    }
    mounts = {one["name"]: one["mountPath"] for one in workers.spec["containers"][0]["volumeMounts"]}
    assert [mounts[name] for name in memory] == ["/dev/shm"]
    assert [one["sizeLimit"] for one in memory.values()] == ["8Gi"], "it counts against the container's own limit"
    assert workers.spec["containers"][0]["resources"]["limits"]["memory"] == "16Gi"
    assert not [pods.owner for pods in find_pods(gpu) if pods is not workers and "tolerations" in pods.spec and not pods.ends]


def test_the_kind_overlay_asks_for_little():
    requested = 0.0
    for pods in find_pods(build(MANIFESTS / "overlays" / "kind")):
        cpu = pods.spec["containers"][0]["resources"]["requests"]["cpu"]
        requested += int(cpu.removesuffix("m")) / 1000 if cpu.endswith("m") else float(cpu)
    assert requested <= 0.5


def test_seaweedfs_answers_at_the_object_stores_address_in_minios_place(variants):
    swapped = variants["seaweedfs"]
    assert ("StatefulSet", "minio") not in kinds(swapped)
    service = named(swapped, "Service", "minio")["spec"]
    (store,) = [pods.owner for pods in find_pods(swapped) if service["selector"].items() <= pods.labels.items()]
    assert store == "StatefulSet/seaweedfs"
    assert [port["port"] for port in service["ports"]] == [9000]
