"""The rights of the service accounts are those that the code uses: no call is refused, and none could be left out."""

import re
import textwrap

import pytest
import yaml

from tests.contract import api_calls
from tests.contract.api_calls import Request, find_requests
from tests.contract.tools import MANIFESTS, ROOT, Manifest, build

STOCK_KUBEFLOW = {  # what KFP's own Role pipeline-runner grants in its namespace, of what matters here
    *(("", resource) for resource in ("pods", "pods/log", "pods/exec", "services", "persistentvolumeclaims")),
    *(("apps", resource) for resource in ("deployments", "replicasets")),
    ("batch", "jobs"),
}

PLATFORM_OVERLAYS = ("overlays/kind", "overlays/gpu", "overlays/production")
TASK_OVERLAYS = ("overlays/gpu/kubeflow", "overlays/production/kubeflow")


def granted(role: Manifest) -> list[Request]:
    return [
        Request(group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def role_of_the_platform() -> Manifest:
    (role,) = [one for one in build(MANIFESTS) if one["kind"] == "Role"]
    return role


def test_the_pipeline_runner_may_do_what_tasks_do_and_nothing_else():
    rights = granted(role_of_the_platform())
    assert len(rights) == len(set(rights)), "a right is granted twice"
    needed = find_requests("slipway.stages")
    lacking = {request: where for request, where in needed.items() if request not in rights}
    assert not lacking, "the code makes requests that the Role does not grant"
    assert not set(rights) - set(needed), "the Role grants what no code uses"


def test_in_kubeflows_namespace_tasks_get_what_launching_needs_and_kfp_does_not_grant():
    documents = yaml.safe_load_all((MANIFESTS / "kubeflow" / "rights.yaml").read_text())
    (role,) = [one for one in documents if one["kind"] == "Role"]
    needed = {request for request in find_requests("slipway.launch") if (request.group, request.resource) not in STOCK_KUBEFLOW}
    assert set(granted(role)) == needed


@pytest.mark.parametrize(
    ("folder", "role", "namespaces"),
    [
        *((folder, "pipeline-runner", {"slipway", "kubeflow"}) for folder in (".", *PLATFORM_OVERLAYS)),
        *((folder, "slipway-tasks", {"kubeflow"}) for folder in ("kubeflow", *TASK_OVERLAYS)),
    ],
)
def test_rights_hold_in_one_namespace_and_for_the_pipeline_runner_alone(folder, role, namespaces):
    objects = build(MANIFESTS / folder)
    assert not [one for one in objects if one["kind"].startswith("ClusterRole")]
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "Role"] == [role]
    (binding,) = [one for one in objects if one["kind"] == "RoleBinding"]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
    assert sorted((one["kind"], one["name"], one["namespace"]) for one in binding["subjects"]) == [
        ("ServiceAccount", "pipeline-runner", namespace) for namespace in sorted(namespaces)
    ]


@pytest.mark.parametrize("folder", PLATFORM_OVERLAYS)
def test_an_overlay_grants_what_the_base_grants(folder):
    (role,) = [one for one in build(MANIFESTS / folder) if one["kind"] == "Role"]
    assert role["rules"] == role_of_the_platform()["rules"]


def test_nobody_may_read_secrets_run_commands_in_pods_or_change_rights():
    rights = granted(role_of_the_platform())
    assert not [
        one for one in rights if one.resource in ("secrets", "pods/exec", "roles", "rolebindings", "serviceaccounts/token")
    ]
    assert not [one for one in rights if "*" in (one.group, one.resource, one.verb)]


def test_the_documented_rights_are_those_that_are_granted():
    section = (ROOT / "docs" / "cluster.md").read_text().split("\n## Rights\n", 1)[1].split("\n## ", 1)[0]
    documented = set()
    for line in section.splitlines():
        if found := re.fullmatch(r"\| (?:`([\w.]+)`|core) \| `([\w/]+)` \| ([a-z, ]+) \|.*", line):
            documented |= {Request(found[1] or "", found[2], verb) for verb in found[3].split(", ")}
    assert documented == set(granted(role_of_the_platform()))


@pytest.mark.parametrize(
    "call", ["core.list_node()", "core.read_namespace('n')", "core.api_client.call_api('/')", "watch.Watch()"], ids=str.strip
)
def test_a_call_that_is_not_understood_is_an_error_and_is_not_passed_over(package, call):
    package(stages__look=f"def look(core, watch):\n    {call}\n")
    with pytest.raises(AssertionError, match=r"slipway\.stages\.look"):
        find_requests("slipway.stages")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package that is read as ours is."""

    def write(**files: str) -> None:
        for name, content in files.items():
            path = tmp_path / "slipway" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))

    monkeypatch.setattr(api_calls, "ROOT", tmp_path)
    for cached in (api_calls._modules, api_calls._parse, api_calls._wrapper_methods):
        cached.cache_clear()
    write(cluster__resources=(ROOT / "slipway" / "cluster" / "resources.py").read_text())
    yield write
    for cached in (api_calls._modules, api_calls._parse, api_calls._wrapper_methods):
        cached.cache_clear()


def test_calls_are_found_through_imports_wrappers_and_functions(package):
    package(
        stages__deploy="""
            def deploy():
                from slipway.deploy.here import put
                put()
        """,
        deploy__here="""
            from slipway.cluster.resources import CustomResources, ResourceKind
            THINGS = ResourceKind(kind="Thing", group="example.com", version="v1", plural="things")
            OTHERS = ResourceKind(kind="Other", group="example.com", version="v1", plural="others")

            class Target:
                @property
                def things(self) -> CustomResources:
                    return CustomResources(cluster=self.cluster, namespace="n", kind=THINGS)

                def put(self):
                    self.things.apply({})
                    CustomResources(cluster=self.cluster, namespace="n", kind=OTHERS).get("o")
                    self.cluster.coordination.replace_namespaced_lease("l", "n", {})
        """,
        never__imported="def f(core):\n    core.read_namespaced_secret('s', 'n')\n",
    )
    assert set(find_requests("slipway.stages")) == {
        *(Request("example.com", "things", verb) for verb in ("get", "create", "patch")),
        Request("example.com", "others", "get"),
        Request("coordination.k8s.io", "leases", "update"),
    }
