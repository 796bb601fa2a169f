"""What `kubectl apply -k` is given: every kustomization builds, and every object keeps the rules."""

import json
import re
import tomllib

import pytest
import yaml

from images.build import IMAGES, REGISTRY
from pipelines.images import choose_images
from pipelines.resources import CONFIG_KEYS, CONFIG_MAP, SECRET, SECRET_KEYS
from slipway.serving.process.options import load_options
from slipway.settings import load_settings
from slipway.storage.buckets import BucketSpec
from tests.contract.pod_rules import Pods, find_images, find_pods, unbounded, violations
from tests.contract.tools import MANIFESTS, ROOT, Manifest, build, build_with, gather_schemas, validate

OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml"))
REMOTE = sorted(path.parent for path in MANIFESTS.glob("third-party/**/kustomization.yaml"))
VARIANTS = ["base", *(path.name for path in OVERLAYS), "seaweedfs"]
_NEEDS = {"gpu": ("trainer-runtime",), "external-stores": ("../overlays/production/stores",)}
_SECRETIVE = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|ACCESS_KEY|BACKEND_STORE_URI", re.IGNORECASE)
_FULL_VERSION = re.compile(r"RELEASE\.\d{4}-|\d+\.\d+")
_CREDENTIALS = re.compile(r"://[^/@\s:]+:[^/@\s]+@|\b[Bb]earer [\w.-]{8,}|-----BEGIN|\b(?:minio123|minioadmin)\b")
_WITHOUT_PODS = {
    *("ConfigMap", "Namespace", "Service", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"),
    *("ResourceQuota", "LimitRange", "PodDisruptionBudget"),
}
_IMAGE = re.compile(r"(?P<name>[a-z0-9.-]+\.[a-z]+/[a-z0-9./-]+):(?P<tag>[\w.-]+)(@sha256:[0-9a-f]{64})?")


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Manifest, ...]]:
    """The layer in all its forms."""
    scratch = tmp_path_factory.mktemp("seaweedfs")
    built = {path.name: build(path) for path in OVERLAYS}
    return {"base": build(MANIFESTS), **built, "seaweedfs": build_with(MANIFESTS, scratch, "seaweedfs")}


@pytest.fixture(params=VARIANTS)
def manifests(request: pytest.FixtureRequest, variants: dict[str, tuple[Manifest, ...]]) -> tuple[Manifest, ...]:
    return variants[request.param]


@pytest.fixture(scope="module")
def project_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def named(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    (found,) = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def kinds(manifests: tuple[Manifest, ...]) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in manifests}


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in MANIFESTS.glob("base/*/kustomization.yaml")), ids=lambda p: p.name
)
def test_each_service_builds_by_itself(folder):
    assert build(folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_builds_on_the_base(component, tmp_path):
    assert build_with(MANIFESTS, tmp_path, *_NEEDS.get(component, ()), component)


def test_every_folder_of_the_base_is_installed():
    listed = yaml.safe_load((MANIFESTS / "base" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.parent.name for path in MANIFESTS.glob("base/*/kustomization.yaml")} | {"../../kserve"}


def test_every_object_is_valid_for_its_schema(manifests, tmp_path):
    assert validate(manifests, gather_schemas(tmp_path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "kserve").glob("*.yaml")), ids=lambda path: path.name)
def test_what_is_applied_by_the_code_is_valid_for_its_schema(path, tmp_path):
    if path.name != "kustomization.yaml":
        assert validate(tuple(yaml.safe_load_all(path.read_text())), gather_schemas(tmp_path)) == []


def test_a_misspelt_field_is_found(tmp_path):
    """The schemas are strict at every depth."""
    broken = json.loads(json.dumps(named(build(MANIFESTS), "Deployment", "mlflow")))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    (finding,) = validate((broken,), gather_schemas(tmp_path))
    assert "readynessProbe" in finding


def test_every_image_has_a_registry_and_a_version(manifests):
    for image in find_images(manifests):
        assert (found := _IMAGE.fullmatch(image)), image
        assert _FULL_VERSION.search(found["tag"]), f"{image}: latest, a branch or a major version moves on by itself"


def test_every_kind_that_makes_pods_is_looked_into(manifests):
    """Else a new kind would keep none of the rules, and no test would see it."""
    assert {one["kind"] for one in manifests} <= _WITHOUT_PODS | {pods.owner.partition("/")[0] for pods in find_pods(manifests)}


def test_the_router_of_an_inference_graph_is_bounded():
    graph = yaml.safe_load((ROOT / "kserve" / "inference-graph.yaml").read_text())
    assert not unbounded(graph["spec"])


def test_nothing_secret_stands_in_any_field(manifests):
    """In arguments, say, where no name tells it."""
    assert not _CREDENTIALS.search(json.dumps(manifests))


def test_our_images_have_the_projects_version(manifests, project_version):
    ours = {image for image in find_images(manifests) if "/slipway/" in image}
    assert ours
    assert {image.rpartition(":")[2] for image in ours} == {project_version}


def test_versions_of_images_stand_in_one_place_of_the_base():
    listed = {one["name"] for one in yaml.safe_load((MANIFESTS / "base" / "kustomization.yaml").read_text())["images"]}
    assert listed == {image.rpartition(":")[0] for image in find_images(build(MANIFESTS))}
    for path in MANIFESTS.glob("base/*/*.yaml"):
        assert not re.search(r"image: \S+:\S+", path.read_text()), f"{path} states a version"


def test_images_of_ours_are_those_that_make_images_builds(manifests):
    built = {f"{REGISTRY}/{name}" for name in IMAGES.values()}
    assert {image.rpartition(":")[0] for image in find_images(manifests) if "/slipway/" in image} <= built
    assert {image.rpartition(":")[0] for image in (choose_images().pipeline, choose_images().trainer)} <= built


def test_images_of_tasks_and_of_the_platform_come_from_one_registry():
    bucket_maker = named(build(MANIFESTS), "Job", "buckets")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert bucket_maker == choose_images().pipeline


def test_no_secret_is_among_the_objects(manifests):
    assert not [one["metadata"]["name"] for one in manifests if one["kind"] == "Secret"]


def test_nothing_secret_stands_in_an_environment_or_a_settings_file(manifests):
    for pods in find_pods(manifests):
        for container in pods.containers:
            for variable in container.get("env", []):
                if _SECRETIVE.search(variable["name"]):
                    assert "secretKeyRef" in variable.get("valueFrom", {}), f"{pods.owner}: {variable['name']}"
    for one in manifests:
        if one["kind"] == "ConfigMap":
            assert not [key for key in one["data"] if _SECRETIVE.search(key)]
            assert not [key for key, value in one["data"].items() if re.search(r"://[^/@\s]+:[^/@\s]+@", value)]


def test_pod_security_restricted_admits_every_pod(manifests):
    template = yaml.safe_load((ROOT / "kserve" / "inference-service.yaml").read_text())["spec"]["predictor"]
    for pods in find_pods(manifests):
        whole = pods
        if pods.runtime:  # KServe puts the two together
            spec = {**pods.spec, "securityContext": template["securityContext"]}
            whole = Pods(owner=pods.owner, spec=spec, labels={}, ends=False, runtime=True)
        assert list(violations(whole)) == [], whole.owner


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"readOnlyRootFilesystem": False}, "root file system"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "capabilities"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
    ],
)
def test_a_pod_that_breaks_a_rule_of_pod_security_is_found(change, finding):
    broken = json.loads(json.dumps(named(build(MANIFESTS), "Deployment", "mlflow")))
    broken["spec"]["template"]["spec"]["containers"][0]["securityContext"] |= change
    assert [one for pods in find_pods([broken]) for one in violations(pods) if finding in one]


def test_every_container_has_requests_and_limits(manifests):
    for pods in find_pods(manifests):
        for container in pods.containers:
            assert not unbounded(container), f"{pods.owner}, {container['name']}"


def test_every_container_that_serves_says_when_it_has_started_is_ready_and_lives(manifests):
    for pods in find_pods(manifests):
        if not pods.ends:
            for container in pods.spec["containers"]:
                missing = {"startupProbe", "readinessProbe", "livenessProbe"} - set(container)
                assert not missing, f"{pods.owner}, {container['name']}"


def test_only_the_pipeline_runner_may_ask_the_api_server(manifests):
    """A pod gets a token where neither it nor its service account says no."""
    accounts = {
        one["metadata"]["name"]: one.get("automountServiceAccountToken") for one in manifests if one["kind"] == "ServiceAccount"
    }
    assert {name for name, mounts in accounts.items() if mounts is not False} == {"pipeline-runner"}
    for pods in find_pods(manifests):
        if not pods.runtime:
            assert pods.spec["automountServiceAccountToken"] is False, pods.owner
            assert pods.spec.get("serviceAccountName", "predictor") in accounts, pods.owner


def test_the_namespace_is_bounded_and_fills_in_what_a_container_leaves_out(manifests):
    quota = named(manifests, "ResourceQuota", "slipway")["spec"]["hard"]
    assert {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", "persistentvolumeclaims"} <= set(quota)
    assert (quota["services.nodeports"], quota["services.loadbalancers"]) == ("0", "0")
    (limits,) = named(manifests, "LimitRange", "slipway")["spec"]["limits"]
    assert limits["type"] == "Container"
    assert set(limits["default"]) == set(limits["defaultRequest"]) == {"cpu", "memory"}


def test_whatever_lies_in_memory_or_on_the_node_is_bounded(manifests):
    for pods in find_pods(manifests):
        for volume in pods.spec.get("volumes", []):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{pods.owner}, {volume['name']}"


def test_every_workload_has_a_disruption_budget_that_lets_a_node_be_drained(manifests):
    budgets = [one for one in manifests if one["kind"] == "PodDisruptionBudget"]
    for one in manifests:
        if one["kind"] in ("Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            (budget,) = [
                each["spec"]
                for each in budgets
                if each["spec"]["selector"].get("matchLabels", {"": ""}).items() <= labels.items()
            ]
            assert budget.get("maxUnavailable", 0) >= 1 or budget["minAvailable"] < one["spec"]["replicas"]


def test_every_service_finds_pods_and_their_ports(manifests):
    for one in manifests:
        if one["kind"] == "Service":
            selected = [pods for pods in find_pods(manifests) if one["spec"]["selector"].items() <= pods.labels.items()]
            assert selected, one["metadata"]["name"]
            ports = {port["name"] for pods in selected for container in pods.containers for port in container.get("ports", [])}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def test_every_object_lies_in_the_namespace_and_follows_when_it_is_moved(manifests, tmp_path):
    namespace = next(one for one in manifests if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {one["metadata"].get("namespace") for one in manifests if one["kind"] not in ("Namespace", "ClusterTrainingRuntime")}
    assert places == {"slipway"}
    moved = build_with(MANIFESTS, tmp_path, namespace="elsewhere")
    assert named(moved, "Namespace", "elsewhere")
    binding = named(moved, "RoleBinding", "pipeline-runner")
    assert {(one["name"], one["namespace"]) for one in binding["subjects"]} == {
        ("pipeline-runner", "elsewhere"),
        ("pipeline-runner", "kubeflow"),
    }


def test_a_claim_says_all_that_the_api_server_would_add(manifests):
    """Else kubectl finds a difference at each apply, for ever."""
    for one in manifests:
        for claim in one["spec"].get("volumeClaimTemplates", []) if one["kind"] == "StatefulSet" else []:
            assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
            assert (claim["spec"]["volumeMode"], claim["status"]) == ("Filesystem", {"phase": "Pending"})
        for rule in [*one["spec"].get("ingress", []), *one["spec"].get("egress", [])] if one["kind"] == "NetworkPolicy" else []:
            assert all("protocol" in port for port in rule.get("ports", []))


def test_a_finished_job_stays_so_that_a_second_apply_changes_nothing(manifests):
    assert not [one for one in manifests if one["kind"] == "Job" and "ttlSecondsAfterFinished" in one["spec"]]


def test_tasks_are_given_what_compiled_pipelines_refer_to():
    for folder in (MANIFESTS, MANIFESTS / "kubeflow" / "settings.yaml"):
        objects = build(folder) if folder.is_dir() else tuple(yaml.safe_load_all(folder.read_text()))
        settings = named(objects, "ConfigMap", CONFIG_MAP)
        assert set(CONFIG_KEYS) <= set(settings["data"])
    script = (MANIFESTS / "secrets").read_text()
    assert SECRET in script
    assert all(key in script for key in SECRET_KEYS)


def test_kubeflows_copy_of_the_settings_says_the_same_seen_from_there():
    ours = named(build(MANIFESTS), "ConfigMap", CONFIG_MAP)["data"]
    (copy,) = yaml.safe_load_all((MANIFESTS / "kubeflow" / "settings.yaml").read_text())
    seen = {key: re.sub(r"^http://(\w+):", r"http://\1.slipway.svc:", ours[key]) for key in CONFIG_KEYS}
    assert copy["data"] == seen


def test_buckets_are_made_as_documented():
    (job,) = [pods for pods in find_pods(build(MANIFESTS)) if pods.owner == "Job/buckets"]
    specs = [BucketSpec.parse(argument.removeprefix("--bucket=")) for argument in job.containers[0]["args"]]
    documented = re.findall(r"--bucket (\S+)", (ROOT / "docs" / "storage.md").read_text())
    assert specs == [BucketSpec.parse(spec) for spec in documented]
    assert any(spec.versioned and spec.expiry and spec.noncurrent_days for spec in specs)


def test_a_predictor_drains_and_has_the_time_for_it():
    """It answers while endpoints learn that it is no longer ready; then it ends, before it is killed."""
    (pods,) = [pods for pods in find_pods(build(MANIFESTS)) if pods.runtime]
    (drain,) = [float(one.partition("=")[2]) for one in pods.containers[0]["args"] if one.startswith("--drain-seconds")]
    readiness = pods.containers[0]["readinessProbe"]
    grace = yaml.safe_load((ROOT / "kserve" / "inference-service.yaml").read_text())["spec"]["predictor"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < drain
    assert drain + 30 < grace["terminationGracePeriodSeconds"]


def test_predictors_answer_over_grpc_where_the_component_says_so(tmp_path):
    """At a port of its own after HTTP's: KServe makes the first one port 80 of the Service."""
    built = build_with(MANIFESTS, tmp_path, "grpc")
    assert validate(built, gather_schemas(tmp_path / "schemas")) == []
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


def test_the_production_overlay_has_its_addresses_from_one_file():
    stores = yaml.safe_load((MANIFESTS / "overlays" / "production" / "stores" / "stores.yaml").read_text())["data"]
    platform = named(build(MANIFESTS / "overlays" / "production"), "ConfigMap", CONFIG_MAP)["data"]
    tasks = named(build(MANIFESTS / "overlays" / "production" / "kubeflow"), "ConfigMap", CONFIG_MAP)["data"]
    for settings in (platform, tasks):
        assert settings["AWS_ENDPOINT_URL"] == stores["endpoint"]
        assert settings["AWS_REGION"] == stores["region"]
        assert settings["SLIPWAY_STATE_URI"] == stores["stateUri"]
    assert platform["MLFLOW_ARTIFACTS_DESTINATION"] == stores["artifactsUri"]
    assert "minio" not in str(platform) + str(tasks)


def test_what_tasks_need_in_kubeflow_can_be_applied_alone(tmp_path):
    """Where KFP is there already: settings and rights, nothing of KFP's own, nothing remote."""
    for folder, quotas in (("kubeflow", set()), ("overlays/gpu/kubeflow", {("ResourceQuota", "gpus")})):
        objects = build(MANIFESTS / folder)
        alone = {("ConfigMap", CONFIG_MAP), ("Role", "slipway-tasks"), ("RoleBinding", "slipway-tasks")}
        assert kinds(objects) == alone | quotas
        assert {one["metadata"]["namespace"] for one in objects} == {"kubeflow"}
        assert validate(objects, gather_schemas(tmp_path)) == []


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


def test_the_template_that_deploy_fills_is_the_one_in_the_kserve_folder():
    for name in ("inference-service.yaml", "inference-graph.yaml"):
        packaged = ROOT / "slipway" / "deploy" / name
        if packaged.exists():
            assert packaged.read_bytes() == (ROOT / "kserve" / name).read_bytes(), f"{packaged} and kserve/{name} differ"
