import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.cluster.resources import CustomResources, ResourceKind, merge_patch
from slipway.errors import ClusterError
from tests.kube_api.server import _merge

KIND = ResourceKind(kind="Boat", group="example.com", version="v1", plural="boats")
PATH = "/apis/example.com/v1/namespaces/ns/boats/one"
LEAVES = st.one_of(st.integers(0, 3), st.text("ab", max_size=2), st.lists(st.integers(0, 2), max_size=2))
TREES = st.dictionaries(
    st.sampled_from("abcd"), st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner))
)


def boat(**spec):
    return {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "one", "namespace": "ns"}, "spec": spec}


@pytest.fixture
def boats(served):
    api, cluster = served
    return api, CustomResources(cluster=cluster, namespace="ns", kind=KIND)


def test_an_object_is_made_then_changed_then_left_alone(boats):
    api, resources = boats
    resources.apply(boat(sails=1, crew={"cook": True}))
    changed = resources.apply(boat(sails=2))
    assert changed["spec"] == {"sails": 2, "crew": {"cook": True}}
    again = resources.apply(boat(sails=2))
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert [request.partition(" ")[0] for request in api.requests] == ["GET", "POST", "GET", "PATCH", "GET"]


def test_a_change_that_others_made_meanwhile_is_kept(boats):
    api, resources = boats
    resources.apply(boat(sails=1))
    interfered = []

    def interfere(method, path):
        if method == "PATCH" and not interfered:
            interfered.append(path)
            api.put(path, **{**api.objects[path], "spec": {"sails": 1, "anchor": "down"}, "status": {"afloat": True}})

    api.before_write = interfere
    assert resources.apply(boat(sails=2))["spec"] == {"sails": 2, "anchor": "down"}
    assert interfered == [PATH]


def test_one_that_others_made_first_is_changed_instead(boats):
    api, resources = boats

    def interfere(method, _path):
        if method == "POST" and PATH not in api.objects:
            api.put(PATH, **boat(sails=9, name="theirs"))

    api.before_write = interfere
    assert resources.apply(boat(sails=2))["spec"] == {"sails": 2, "name": "theirs"}


def test_what_may_not_be_changed_is_said_before_each_attempt(boats):
    api, resources = boats
    resources.apply(boat(sails=1))
    shown = []

    def check(current):
        shown.append(current["spec"]["sails"])
        if current["spec"]["sails"] == 7:
            raise ClusterError("somebody else's")

    def interfere(_method, path):
        api.put(path, **{**api.objects[path], "spec": {"sails": 7}})

    api.before_write = interfere
    with pytest.raises(ClusterError, match="somebody else's"):
        resources.apply(boat(sails=2), check=check)
    assert (shown, api.objects[PATH]["spec"]) == ([1, 7], {"sails": 7})


def test_an_object_that_others_change_all_the_time_is_given_up(boats):
    api, resources = boats
    resources.apply(boat(sails=1))
    api.before_write = lambda _method, path: api.put(path, **api.objects[path])
    with pytest.raises(ClusterError, match="Boat ns/one was changed by others in each of 10 attempts"):
        resources.apply(boat(sails=2))


def test_only_the_very_object_is_deleted(boats):
    api, resources = boats
    old = resources.apply(boat(sails=1))
    del api.objects[PATH]
    new = resources.apply(boat(sails=1))
    resources.delete(old)
    assert PATH in api.objects
    resources.delete(new)
    resources.delete(new)
    assert resources.get("one") is None


@given(current=TREES, desired=TREES)
def test_after_the_patch_all_that_was_desired_is_there_and_a_second_one_is_empty(current, desired):
    patched = _merge(copy.deepcopy(current), merge_patch(current, desired))
    assert merge_patch(patched, desired) == {}
    assert current.keys() - desired.keys() <= patched.keys(), "what is not mentioned stays"


@given(current=TREES, desired=TREES)
def test_with_removal_the_patch_gives_exactly_what_was_desired(current, desired):
    def removes_everything(_path):
        return True

    assert _merge(copy.deepcopy(current), merge_patch(current, desired, remove=removes_everything)) == desired
