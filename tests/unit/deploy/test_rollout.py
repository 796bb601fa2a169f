import json

import pytest

from slipway.deploy.rollout import (
    STORAGE_ANNOTATION,
    Sight,
    Wanted,
    _Patience,
    deployment_name,
    find_missing_images,
    find_troubles,
    is_complete,
)

URI = "s3://slipway/state/models/digits/new/"
WANTED = Wanted(name="digits", uid="u", storage_uri=URI, promoted_at="now")
MADE = {STORAGE_ANNOTATION: URI, "slipway.dev/promoted-at": "now"}


@pytest.fixture(scope="module")
def parse():
    """Makes the client's objects of an API server's JSON."""
    from kubernetes import client

    api = client.ApiClient()

    def parse(content, kind):
        class Response:
            data = json.dumps(content)

        return api.deserialize(Response, kind)

    yield parse
    api.close()


@pytest.fixture
def deployment(parse):
    def make(annotations=MADE, generation=2, observed=2, replicas=1, updated=1, total=1, available=1, conditions=()):
        content = {
            "metadata": {"name": "digits-predictor", "generation": generation},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "isvc.digits-predictor"}},
                "template": {"metadata": {"annotations": annotations}, "spec": {"containers": []}},
            },
            "status": {
                "observedGeneration": observed,
                "replicas": total,
                "updatedReplicas": updated,
                "availableReplicas": available,
                "conditions": list(conditions),
            },
        }
        return parse(content, "V1Deployment")

    return make


@pytest.fixture
def pod(parse):
    def make(init=None, main=None, conditions=()):
        status = {"phase": "Pending", "conditions": list(conditions)}
        if init:
            status["initContainerStatuses"] = [
                {"name": "storage-initializer", "image": "", "imageID": "", "ready": False, **init}
            ]
        if main:
            status["containerStatuses"] = [{"name": "kserve-container", "image": "", "imageID": "", "ready": False, **main}]
        content = {
            "metadata": {"name": "digits-predictor-1", "uid": "p-1", "annotations": MADE},
            "spec": {"initContainers": [{"name": "storage-initializer"}], "containers": [{"name": "kserve-container"}]},
            "status": status,
        }
        return parse(content, "V1Pod")

    return make


def sight(deployment=None, *pods, model_status=None, warnings=()):
    service = {
        "metadata": {"name": "digits"},
        "spec": {"predictor": {"model": {"runtime": "slipway"}}},
        "status": {"modelStatus": model_status or {}, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    return Sight(service=service, deployment=deployment, pods=pods, warnings=warnings)


def test_a_change_is_complete_when_all_pods_are_of_it_whatever_the_inference_service_says(deployment):
    assert is_complete(WANTED, sight(deployment()))
    assert is_complete(WANTED, sight(deployment(replicas=2, updated=2, total=2, available=2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": {**MADE, STORAGE_ANNOTATION: "s3://slipway/state/models/digits/old/"}},
        {"annotations": {**MADE, "slipway.dev/promoted-at": "before"}},
        {"annotations": {}},
        {"observed": 1},
        {"updated": 0, "total": 1},
        {"updated": 1, "total": 2},
        {"available": 0},
        {"replicas": 2},
    ],
    ids=["old bundle", "old promotion", "no bundle", "not seen yet", "none new", "an old one left", "none available", "too few"],
)
def test_a_change_is_not_complete_while_ready_is_true_of_the_old_pods(deployment, changes):
    assert not is_complete(WANTED, sight(deployment(**changes)))


def kinds(seen):
    return [trouble.kind for trouble in find_troubles(WANTED, seen)]


def test_a_rollout_that_goes_well_shows_no_trouble(deployment, pod):
    starting = pod(main={"restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}})
    fetching = pod(init={"restartCount": 0, "state": {"running": {}}})
    assert kinds(sight(deployment(available=0), starting, fetching, model_status={"transitionStatus": "InProgress"})) == []


def test_a_crash_counts_when_it_comes_back_and_a_failed_download_at_once(deployment, pod):
    first = pod(main={"restartCount": 0, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}})
    looping = pod(main={"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}})
    restarted = pod(main={"restartCount": 2, "state": {"running": {}}})
    failed = pod(
        init={"restartCount": 0, "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "No model found"}}}
    )
    assert [kinds(sight(deployment(), one)) for one in (first, looping, restarted, failed)] == [
        [],
        ["crash"],
        ["crash"],
        ["load"],
    ]
    (trouble,) = find_troubles(WANTED, sight(deployment(), failed))
    assert "No model found" in trouble.text


def test_an_image_that_is_not_there_and_a_pod_that_fits_nowhere_are_said_in_the_clusters_words(deployment, pod):
    image = pod(main={"restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}})
    nowhere = pod(
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]
    )
    for one, told in ((image, "no such tag"), (nowhere, "0/1 nodes are available")):
        (trouble,) = find_troubles(WANTED, sight(deployment(), one))
        assert told in trouble.text


def test_what_kserve_says_of_an_earlier_change_is_no_trouble(deployment):
    failure = {"reason": "ModelLoadFailed", "message": "no such bucket"}
    recovered = {"transitionStatus": "UpToDate", "lastFailureInfo": failure}
    blocked = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
    assert kinds(sight(deployment(), model_status=recovered)) == []
    assert kinds(sight(deployment(annotations={}), model_status=blocked)) == []
    (trouble,) = find_troubles(WANTED, sight(deployment(), model_status=blocked))
    assert "ModelLoadFailed no such bucket" in trouble.text


def test_a_specification_that_is_not_taken_names_the_runtime(deployment):
    status = {"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": "Waiting for runtime to become available"}}
    (trouble,) = find_troubles(WANTED, sight(model_status=status))
    assert "Waiting for runtime" in trouble.text
    assert "ServingRuntime 'slipway'" in trouble.text


def test_pods_that_are_refused_and_events_of_a_change_that_is_not_carried_out_are_trouble(deployment):
    refused = {"type": "ReplicaFailure", "status": "True", "message": 'violates PodSecurity "restricted"'}
    assert kinds(sight(deployment(conditions=[refused]))) == ["refused"]
    warning = "InternalError: storageUri minio://x is of no supported scheme"
    assert kinds(sight(deployment(annotations={}), warnings=(warning,))) == ["event"]
    assert kinds(sight(deployment(), warnings=("Unhealthy: Readiness probe failed",))) == [], "while pods start, probes fail"


def test_trouble_ends_the_wait_when_it_has_lasted_and_not_when_it_comes_and_goes(deployment, pod):
    image = pod(main={"restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}})
    trouble = list(find_troubles(WANTED, sight(deployment(), image)))
    patience = _Patience()
    assert patience.lose(trouble, 0.0) is None
    assert patience.lose([], 3.0) is None
    assert patience.lose(trouble, 4.5) is None
    assert patience.lose(trouble, 9.0) == trouble[0]


def test_the_deployment_is_named_like_the_service_that_the_address_leads_to():
    service = sight().service
    assert deployment_name(service) == "digits-predictor"
    service["status"]["address"] = {"url": "http://digits-v2-predictor.ml.svc.cluster.local"}
    assert deployment_name(service) == "digits-v2-predictor"


@pytest.fixture
def event(parse):
    def make(message, reason="Failed", uid="p-1"):
        content = {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "digits-predictor-1", "uid": uid},
            "reason": reason,
            "message": message,
        }
        return parse(content, "CoreV1Event")

    return make


MISSING = 'Failed to pull image "ghcr.io/slipway/slipway-predictor:none": rpc error: code = NotFound desc = ...: not found'


def test_an_image_that_does_not_exist_is_seen_in_the_events_before_the_pod_says_so(pod, event):
    waiting = pod(main={"restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}})
    (said,) = find_missing_images([waiting], [event(MISSING)])
    seen = Sight(service=sight().service, deployment=None, pods=(waiting,), missing_images=(said,))
    (trouble,) = find_troubles(WANTED, seen)
    assert (trouble.kind, trouble.text) == ("image", f"pod digits-predictor-1: {MISSING}")


def test_only_a_missing_image_of_a_pod_that_waits_counts_among_the_events(pod, event):
    waiting = pod(main={"restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}})
    running = pod(main={"restartCount": 0, "state": {"running": {}}})
    assert list(find_missing_images([running], [event(MISSING)])) == []
    assert list(find_missing_images([waiting], [event(MISSING, uid="p-2")])) == []
    assert list(find_missing_images([waiting], [event('Failed to pull image "x": i/o timeout')])) == []
    assert list(find_missing_images([waiting], [event("Error: secret not found")])) == []
