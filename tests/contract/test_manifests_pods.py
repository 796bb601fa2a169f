"""Every pod of the platform layer keeps the rules: Pod Security, limits, probes, tokens, draining."""

import json

import pytest
import yaml

from tests.contract.objects import named
from tests.contract.pod_rules import Pods, find_pods, unbounded, violations
from tests.contract.tools import MANIFESTS, ROOT, build

_WITHOUT_PODS = {
    *("ConfigMap", "Namespace", "Service", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"),
    *("ResourceQuota", "LimitRange", "PodDisruptionBudget"),
}


def test_every_kind_that_makes_pods_is_looked_into(manifests):
    """Else a new kind would keep none of the rules, and no test would see it."""
    assert {one["kind"] for one in manifests} <= _WITHOUT_PODS | {pods.owner.partition("/")[0] for pods in find_pods(manifests)}


def test_the_router_of_an_inference_graph_is_bounded():
    graph = yaml.safe_load((ROOT / "kserve" / "inference-graph.yaml").read_text())
    assert not unbounded(graph["spec"])


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


def test_a_predictor_drains_and_has_the_time_for_it():
    """It answers while endpoints learn that it is no longer ready; then it ends, before it is killed."""
    (pods,) = [pods for pods in find_pods(build(MANIFESTS)) if pods.runtime]
    (drain,) = [float(one.partition("=")[2]) for one in pods.containers[0]["args"] if one.startswith("--drain-seconds")]
    readiness = pods.containers[0]["readinessProbe"]
    grace = yaml.safe_load((ROOT / "kserve" / "inference-service.yaml").read_text())["spec"]["predictor"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < drain
    assert drain + 30 < grace["terminationGracePeriodSeconds"]
