"""Ending a split, on an API server that nothing acts on."""

import pytest

from slipway.deploy.kserve import KServeTarget
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.split import build_graph, end_split
from slipway.settings import load_settings
from tests.kube_api.server import serve_kube_api

POLICY = SmokePolicy(tolerance=1e-4, timeout_seconds=5)
SECOND = "/apis/serving.kserve.io/v1beta1/namespaces/ns/inferenceservices/colors-b"


def graph_path(namespace):
    return f"/apis/serving.kserve.io/v1alpha1/namespaces/{namespace}/inferencegraphs/colors"


@pytest.fixture
def served():
    with serve_kube_api() as served:
        yield served


@pytest.fixture
def settings():
    return load_settings({"SLIPWAY_SERVING_NAMESPACE": "ns"})


@pytest.fixture
def split(served, settings):
    """A split as one begins it, with its graph in this namespace."""
    api, cluster = served

    def begin(namespace, model_name="colors", *, noted=True):
        graph = build_graph(settings, namespace, "colors", 20)
        annotations = {"slipway.dev/model-name": model_name}
        api.put(graph_path(namespace), **{**graph, "metadata": {"annotations": annotations}})
        api.put(SECOND, metadata={"annotations": annotations})
        target = KServeTarget(settings, cluster)
        with target.lock("colors", timeout_seconds=5):
            target.note_graph_namespace("colors", namespace if noted else "")

    return begin


@pytest.mark.parametrize(
    ("made_in", "said"), [("ns-ab", ""), ("elsewhere", ""), ("elsewhere", "ns-ab"), ("elsewhere", "elsewhere")]
)
def test_a_splits_end_finds_its_graph_wherever_it_was_made(served, settings, split, made_in, said):
    api, cluster = served
    split(made_in)
    assert end_split(settings, cluster, "colors", POLICY, namespace=said)
    assert not [path for path in api.objects if "serving.kserve.io" in path]
    assert KServeTarget(settings, cluster).read_graph_namespace("colors") == ""
    assert not end_split(settings, cluster, "colors", POLICY), "there is none any more"


def test_what_belongs_to_another_model_is_left_alone_and_counts_for_no_split(served, settings, split):
    api, cluster = served
    split("ns-ab", "shades", noted=False)
    assert not end_split(settings, cluster, "colors", POLICY)
    assert {graph_path("ns-ab"), SECOND} <= set(api.objects)


def test_a_split_that_is_on_its_way_out_counts_for_none(served, settings, split):
    api, cluster = served
    split("ns-ab")
    for path in (graph_path("ns-ab"), SECOND):
        api.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not end_split(settings, cluster, "colors", POLICY)
