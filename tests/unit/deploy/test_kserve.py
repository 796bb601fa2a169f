"""What the KServe target writes, and what it leaves alone, on an API server that nothing acts on."""

import time
from dataclasses import replace

import pytest

from slipway.cluster.lease import LEASE_SECONDS
from slipway.deploy.inference_service import Replicas
from slipway.deploy.kserve import KServeTarget
from slipway.deploy.target import Candidate
from slipway.errors import BundleError, ClusterError, ConfigError, DeployError
from slipway.export.bundle import read_bundle
from slipway.serving.record import ServedVersion
from slipway.settings import load_settings
from tests.kube_api.server import serve_kube_api

SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/ns/inferenceservices"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/slipway-deploy-colors"


@pytest.fixture
def served():
    with serve_kube_api() as served:
        yield served


@pytest.fixture
def target(served):
    settings = load_settings({"SLIPWAY_SERVING_NAMESPACE": "ns", "SLIPWAY_STATE_URI": "s3://slipway/state"})
    return KServeTarget(settings, served[1], replicas=Replicas(min=1, max=1))


@pytest.fixture(scope="module")
def bundle(write_image_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("kserve") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


def candidate(bundle, version="1", model_name="colors"):
    served = ServedVersion(
        version=version, bundle_id=f"bundle-{version}", bundle_uri=f"s3://slipway/state/models/colors/bundle-{version}/",
        run_id="run-1", dataset_id="d", code_version="c", ir_hash="", evaluated_against=None,
    )  # fmt: skip
    return Candidate(model_name=model_name, served=served, bundle=bundle)


def test_a_promotion_is_one_patch_and_confirming_it_touches_the_lease_alone(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
        target.confirm("colors")
        before = len(api.requests)
        promoted = target.promote(candidate(bundle, "2"))
        writes = [
            request for request in api.requests[before:] if not request.startswith("GET") and "inferenceservices" in request
        ]
        assert writes == [f"PATCH {SERVICES}/colors"]
        assert (promoted.previous.version, target.read_serving("colors")) == ("1", promoted)
        manifest = api.objects[f"{SERVICES}/colors"]
        confirmed = target.confirm("colors")
    assert confirmed == replace(promoted, confirmed=True)
    assert api.objects[f"{SERVICES}/colors"] == manifest
    assert target.read_serving("colors").confirmed
    assert target.list_serving() == [confirmed]


def test_without_its_lease_a_promotion_counts_as_unconfirmed(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
        target.confirm("colors")
    del api.objects[LEASE]
    assert not target.read_serving("colors").confirmed


def test_whoever_has_lost_the_lease_changes_nothing(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
        before = api.objects[f"{SERVICES}/colors"]
        spec = {**api.objects[LEASE]["spec"], "holderIdentity": "another"}
        api.put(LEASE, apiVersion="coordination.k8s.io/v1", kind="Lease", spec=spec)
        deadline = time.monotonic() + LEASE_SECONDS
        while not target._leases["colors"]._taken:  # it is noticed when it is renewed
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ClusterError, match="was lost"):
            target.promote(candidate(bundle, "2"))
        with pytest.raises(ClusterError, match="was lost"):
            target.restore("colors", None)
    assert api.objects[f"{SERVICES}/colors"] == before


def test_what_somebody_else_has_changed_meanwhile_is_not_overwritten(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        first = target.promote(candidate(bundle))

        def interfere(method, path):
            if method == "PATCH" and "inferenceservices" in path:
                theirs = api.objects[path]["metadata"]["annotations"] | {"slipway.dev/promoted-at": "just now"}
                api.put(path, **{**api.objects[path], "metadata": {"annotations": theirs}})

        api.before_write = interfere
        with pytest.raises(DeployError, match="What serves as colors was changed by someone else meanwhile"):
            target.promote(candidate(bundle, "2"))
        theirs = api.objects[f"{SERVICES}/colors"]
        api.before_write = lambda method, path: None
        with pytest.raises(DeployError, match="was changed by someone else meanwhile, and is left as it is"):
            target.restore("colors", first)
    assert api.objects[f"{SERVICES}/colors"] == theirs


def test_an_inference_service_of_another_model_is_left_alone(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
    theirs = api.objects[f"{SERVICES}/colors"]["metadata"]["annotations"] | {"slipway.dev/model-name": "shades"}
    api.put(f"{SERVICES}/colors", **{**api.objects[f"{SERVICES}/colors"], "metadata": {"annotations": theirs}})
    with pytest.raises(DeployError, match=r"InferenceService ns/colors belongs to shades, not to the model colors"):
        target.read_serving("colors")


def test_one_that_is_being_deleted_does_not_serve(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
    api.put(f"{SERVICES}/colors", **{**api.objects[f"{SERVICES}/colors"], "metadata": {"deletionTimestamp": "now"}})
    assert target.read_serving("colors") is None


def test_a_first_version_that_is_taken_back_is_removed(served, target, bundle):
    api, _ = served
    with target.lock("colors", timeout_seconds=5):
        target.promote(candidate(bundle))
        target.restore("colors", None)
    assert f"{SERVICES}/colors" not in api.objects


def test_two_processes_do_not_deploy_one_model_at_once(served, target):
    with (
        target.lock("colors", timeout_seconds=5),
        pytest.raises(DeployError, match="Another deployment of colors goes on: the lease ns/slipway-deploy-colors is held by"),
        KServeTarget(load_settings({"SLIPWAY_SERVING_NAMESPACE": "ns"}), served[1]).lock("colors", timeout_seconds=0.1),
    ):
        pass


def test_a_bundle_that_no_pod_could_fetch_is_refused(served, target, bundle, tmp_path):
    laptop = KServeTarget(load_settings({"SLIPWAY_STATE_URI": "/tmp/state"}), served[1])
    with pytest.raises(ConfigError, match="SLIPWAY_STATE_URI is '/tmp/state'; accepted for KServe: s3://BUCKET/FOLDER"):
        laptop.store_bundle("colors", "1", bundle.root)
    with pytest.raises(BundleError, match="lies nowhere that a cluster can fetch it from"):
        target.read_bundle(replace(candidate(bundle).served, bundle_uri=str(tmp_path)), tmp_path / "x")


def deployed(served, bundle, replicas):
    """A target with the second of these replicas, where a version serves that was deployed with the first of them."""
    _, cluster = served
    settings = load_settings({"SLIPWAY_SERVING_NAMESPACE": "ns", "SLIPWAY_STATE_URI": "s3://slipway/state"})
    before, after = (KServeTarget(settings, cluster, replicas=one) for one in replicas)
    with before.lock("colors", timeout_seconds=5):
        before.promote(candidate(bundle))
    return after


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((1, 1), (3, 3), (3, 3)),
        ((1, 4), (2, 6), (2, 6)),
        ((1, 4), (2, 2), (2, 2)),
        ((1, 1), (1, 1), (1, 1)),
        ((1, 1), (1, 4), (1, 1)),
    ],
    ids=["more", "another range", "one number in an autoscaler's range", "unchanged", "an autoscaler, with the next version"],
)
def test_another_number_of_replicas_reaches_what_serves_without_a_new_pod_template(served, bundle, before, after, said):
    api, _ = served
    target = deployed(served, bundle, [Replicas(min=one[0], max=one[1]) for one in (before, after)])
    manifest = api.objects[f"{SERVICES}/colors"]
    with target.lock("colors", timeout_seconds=5):
        target.adjust("colors")
    adjusted = api.objects[f"{SERVICES}/colors"]
    predictor = adjusted["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == said
    assert adjusted["metadata"]["annotations"] == manifest["metadata"]["annotations"]
    unscaled = {key: value for key, value in manifest["spec"]["predictor"].items() if not key.endswith("Replicas")}
    assert {key: value for key, value in predictor.items() if not key.endswith("Replicas")} == unscaled
    assert (adjusted == manifest) == (before == said), "nothing is written where nothing differs"


def test_a_laptop_that_says_no_number_of_replicas_changes_none(served, bundle):
    api, _ = served
    target = deployed(served, bundle, [Replicas(min=2, max=2), None])
    manifest = api.objects[f"{SERVICES}/colors"]
    with target.lock("colors", timeout_seconds=5):
        target.adjust("colors")
    assert api.objects[f"{SERVICES}/colors"] == manifest
