import itertools
import threading
import time
from collections.abc import Callable

import pytest

from slipway.cluster.lease import hold_lease, read_lease_annotations
from slipway.errors import ClusterError

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/deploy"
WAIT_SECONDS = 20


def hold(cluster, holder="a", timeout_seconds=5.0, lease_seconds=1.0):
    return hold_lease(cluster, "ns", "deploy", holder=holder, timeout_seconds=timeout_seconds, lease_seconds=lease_seconds)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def test_a_lease_is_made_renewed_and_given_back(served):
    api, cluster = served
    with hold(cluster, lease_seconds=2.0) as lease:
        first = api.objects[PATH]["spec"]["renewTime"]
        wait_for(lambda: api.objects[PATH]["spec"]["renewTime"] > first)
        lease.check()
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"
    assert "holderIdentity" not in api.objects[PATH]["spec"]


def test_one_holder_at_a_time_and_the_next_begins_when_it_ends(served):
    _, cluster = served
    spans = []

    def work(holder: str) -> None:
        with hold(cluster, holder, timeout_seconds=20, lease_seconds=20):
            begun = time.monotonic()
            time.sleep(0.3)
            spans.append((begun, time.monotonic()))

    threads = [threading.Thread(target=work, args=(holder,)) for holder in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans.sort()
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_holder_that_goes_on_is_waited_for_and_named(served):
    _, cluster = served
    with (
        hold(cluster, "the-other"),
        pytest.raises(TimeoutError, match=r"ns/deploy is held by the-other, and was for 1.5 s"),
        hold(cluster, "b", timeout_seconds=1.5),
    ):
        pass


def test_the_lease_of_a_holder_that_has_died_is_taken_over_whatever_its_clock_said(served):
    api, cluster = served
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2100-01-01T00:00:00.000000Z"}
    api.put(PATH, apiVersion="coordination.k8s.io/v1", kind="Lease", spec=spec)
    begun = time.monotonic()
    with hold(cluster, "b", timeout_seconds=5):
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"
    assert time.monotonic() - begun >= 1.0


def test_a_holder_whose_lease_was_taken_stops(served):
    api, cluster = served
    with hold(cluster, lease_seconds=10.0) as lease:
        api.put(PATH, apiVersion="coordination.k8s.io/v1", kind="Lease", spec={"holderIdentity": "b"})
        wait_for(lambda: lease._taken)
        with pytest.raises(ClusterError, match=r"was lost.*Nothing more was changed"):
            lease.check()
    assert api.objects[PATH]["spec"]["holderIdentity"] == "b", "what is another's is not given back"


def test_a_holder_that_cannot_renew_stops_before_another_may_begin(served):
    api, cluster = served
    blocked = threading.Event()
    with hold(cluster, lease_seconds=1.0) as lease:
        api.before_write = lambda method, path: blocked.wait(5)
        time.sleep(0.85)
        with pytest.raises(ClusterError, match="could not be renewed in time"):
            lease.check()
        blocked.set()


def test_a_change_by_somebody_who_does_not_want_the_lease_does_no_harm(served):
    api, cluster = served
    with hold(cluster, lease_seconds=2.0) as lease:
        before = api.put(PATH, **{**api.objects[PATH], "metadata": {"labels": {"looked": "at"}}})
        wait_for(lambda: api.objects[PATH]["spec"]["renewTime"] > before["spec"]["renewTime"])
        lease.check()
        lease.annotate("slipway.dev/confirmed", "now")
    assert read_lease_annotations(cluster, "ns", "deploy") == {"slipway.dev/confirmed": "now"}
    assert read_lease_annotations(cluster, "ns", "none") == {}
