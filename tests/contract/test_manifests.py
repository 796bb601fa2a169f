"""What `kubectl apply -k` is given: every kustomization builds, and every object is valid and in its place."""

import json

import pytest
import yaml

from tests.contract.objects import named
from tests.contract.pod_rules import find_pods
from tests.contract.tools import MANIFESTS, ROOT, build, build_with, validate

COMPONENTS = sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml"))
_NEEDS = {"gpu": ("trainer-runtime",), "external-stores": ("../overlays/production/stores",)}


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


def test_every_object_is_valid_for_its_schema(manifests, schemas):
    assert validate(manifests, schemas) == []


@pytest.mark.parametrize("path", sorted((ROOT / "kserve").glob("*.yaml")), ids=lambda path: path.name)
def test_what_is_applied_by_the_code_is_valid_for_its_schema(path, schemas):
    if path.name != "kustomization.yaml":
        assert validate(tuple(yaml.safe_load_all(path.read_text())), schemas) == []


def test_a_misspelt_field_is_found(schemas):
    """The schemas are strict at every depth."""
    broken = json.loads(json.dumps(named(build(MANIFESTS), "Deployment", "mlflow")))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    (finding,) = validate((broken,), schemas)
    assert "readynessProbe" in finding


def test_the_namespace_is_bounded_and_fills_in_what_a_container_leaves_out(manifests):
    quota = named(manifests, "ResourceQuota", "slipway")["spec"]["hard"]
    assert {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", "persistentvolumeclaims"} <= set(quota)
    assert (quota["services.nodeports"], quota["services.loadbalancers"]) == ("0", "0")
    (limits,) = named(manifests, "LimitRange", "slipway")["spec"]["limits"]
    assert limits["type"] == "Container"
    assert set(limits["default"]) == set(limits["defaultRequest"]) == {"cpu", "memory"}


def test_every_service_finds_pods_and_their_ports(manifests):
    for one in manifests:
        if one["kind"] == "Service":
            selected = [pods for pods in find_pods(manifests) if one["spec"]["selector"].items() <= pods.labels.items()]
            assert selected, one["metadata"]["name"]
            ports = {port["name"] for pods in selected for container in pods.containers for port in container.get("ports", [])}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def test_every_object_lies_in_the_namespace(manifests):
    namespace = next(one for one in manifests if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {one["metadata"].get("namespace") for one in manifests if one["kind"] not in ("Namespace", "ClusterTrainingRuntime")}
    assert places == {"slipway"}


def test_every_object_follows_when_the_layer_is_moved(tmp_path):
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


def test_the_template_that_deploy_fills_is_the_one_in_the_kserve_folder():
    for name in ("inference-service.yaml", "inference-graph.yaml"):
        packaged = ROOT / "slipway" / "deploy" / name
        if packaged.exists():
            assert packaged.read_bytes() == (ROOT / "kserve" / name).read_bytes(), f"{packaged} and kserve/{name} differ"
