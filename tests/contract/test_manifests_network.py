"""Who may talk to whom, evaluated without a network: what is needed passes, what is not is refused."""

import pytest

from slipway.launch.worker_pod import ROLE_LABEL
from tests.contract.network import Endpoint, find_policies, is_let_through
from tests.contract.pod_rules import find_pods
from tests.contract.tools import MANIFESTS, build, build_with

NAMESPACE = "slipway"
_PREDICTOR_PORT = 8080


def endpoints(*manifests_of: str) -> dict[str, Endpoint]:
    """Every kind of pod that there is in the namespace, and some that look in from outside."""
    pods = [one for name in manifests_of for one in find_pods(build(MANIFESTS / name))]
    found = {}
    for one in pods:
        ports = {port["name"]: port["containerPort"] for each in one.containers for port in each.get("ports", [])}
        found[one.owner.rpartition("/")[2]] = Endpoint(namespace=NAMESPACE, labels=one.labels, ports=ports)
    predictor = {"serving.kserve.io/inferenceservice": "digits", "app": "isvc.digits-predictor"}
    return found | {
        "predictor": Endpoint(namespace=NAMESPACE, labels=predictor, ports={"http": _PREDICTOR_PORT}),
        "task": Endpoint(namespace=NAMESPACE, labels={"slipway.dev/role": "task"}),
        "worker": Endpoint(namespace=NAMESPACE, labels={ROLE_LABEL: "worker"}),
        "stranger": Endpoint(namespace=NAMESPACE, labels={"app": "stranger"}),
        "kubeflow-task": Endpoint(namespace="kubeflow", labels={"pipeline/runid": "r"}),
        "client": Endpoint(namespace="shop", namespace_labels={"slipway.dev/client": "true"}),
        "other-namespace": Endpoint(namespace="other"),
        "dns": Endpoint(namespace="kube-system", labels={"k8s-app": "kube-dns"}),
        "outside": Endpoint(),
    }


ENDPOINTS = ("minio", "postgres", "mlflow", "buckets", "predictor", "task", "worker", "stranger", "kubeflow-task", "client")
NEEDED = {
    *((source, "minio", 9000) for source in ("mlflow", "buckets", "predictor", "task", "worker", "kubeflow-task")),
    *((source, "mlflow", 5000) for source in ("task", "worker", "kubeflow-task")),
    ("mlflow", "postgres", 5432),
    *((source, "predictor", _PREDICTOR_PORT) for source in ("task", "kubeflow-task", "client")),
    ("worker", "worker", 29400),
    ("worker", "worker", 41234),
    ("task", "outside", 443),
    ("task", "outside", 6443),
}
ASKED = {
    *((source, target, port) for source in ENDPOINTS for target, port in (("minio", 9000), ("mlflow", 5000), ("postgres", 5432))),
    *((source, "predictor", _PREDICTOR_PORT) for source in ENDPOINTS),
    *((source, "worker", port) for source in ENDPOINTS for port in (29400, 41234)),
    *((source, "minio", 9001) for source in ENDPOINTS),
    *((source, "outside", port) for source in ENDPOINTS[:8] for port in (443, 6443, 80)),
}


@pytest.mark.parametrize("overlay", ["base", "overlays/kind", "overlays/gpu"])
def test_exactly_what_is_needed_passes(overlay):
    policies = find_policies(build(MANIFESTS / overlay))
    places = endpoints(overlay)
    passing = {
        (source, target, port) for source, target, port in ASKED if is_let_through(policies, places[source], places[target], port)
    }
    assert passing == NEEDED


def test_every_pod_may_look_up_names():
    policies, places = find_policies(build(MANIFESTS)), endpoints("base")
    for source in ENDPOINTS[:8]:
        for protocol in ("UDP", "TCP"):
            assert is_let_through(policies, places[source], places["dns"], 53, protocol)
        assert not is_let_through(policies, places[source], places["dns"], 80)


def test_nobody_comes_in_from_a_namespace_that_is_not_labelled():
    policies, places = find_policies(build(MANIFESTS)), endpoints("base")
    for target, port in (("minio", 9000), ("mlflow", 5000), ("postgres", 5432), ("predictor", _PREDICTOR_PORT)):
        assert not is_let_through(policies, places["other-namespace"], places[target], port)


def test_external_stores_are_reached_and_nothing_else_is_opened():
    places = endpoints("base", "overlays/production")
    policies = find_policies(build(MANIFESTS / "overlays" / "production"))
    passing = {
        (source, port)
        for source in ("mlflow", "predictor", "task", "worker", "stranger")
        for port in (80, 443, 5432, 6443)
        if is_let_through(policies, places[source], places["outside"], port)
    }
    assert passing == {
        *(("mlflow", 443), ("mlflow", 5432), ("predictor", 443), ("worker", 443)),
        *(("task", 443), ("task", 6443)),
    }


def test_clients_alone_ask_predictors_over_grpc_where_the_component_says_so(tmp_path):
    places, opened = endpoints("base"), build_with(MANIFESTS, tmp_path, "grpc")
    for manifests, expected in ((build(MANIFESTS), set()), (opened, {"client", "kubeflow-task"})):
        policies = find_policies(manifests)
        found = {source for source in ENDPOINTS if is_let_through(policies, places[source], places["predictor"], 8081)}
        assert found == expected


def test_seaweedfs_is_reached_as_minio_is(tmp_path):
    swapped = build_with(MANIFESTS, tmp_path, "seaweedfs")
    (store,) = [pods for pods in find_pods(swapped) if pods.owner == "StatefulSet/seaweedfs"]
    ports = {port["name"]: port["containerPort"] for port in store.containers[0]["ports"]}
    seaweedfs, places = Endpoint(namespace=NAMESPACE, labels=store.labels, ports=ports), endpoints("base")
    reached = {source for source in ENDPOINTS if is_let_through(find_policies(swapped), places[source], seaweedfs, 9000)}
    assert reached == {source for source, target, _ in NEEDED if target == "minio"}
    assert not is_let_through(find_policies(swapped), places["task"], seaweedfs, 8888)
