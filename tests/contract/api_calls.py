"""Which requests the code makes of a Kubernetes API server, read from its source.

Two forms are known. A method of the `kubernetes` client names its verb and resource: `create_namespaced_job`. Custom resources go
through `slipway.cluster.resources.CustomResources`, whose methods stand for the client's calls in them, on the kind
(`ResourceKind`) that they were made with.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kubernetes import client

from tests.contract.tools import ROOT

PACKAGE = "slipway"
_METHOD = re.compile(r"(read|list|create|patch|replace|delete_collection|delete|watch)_namespaced_(\w+)")
_CUSTOM_METHOD = re.compile(r"(get|list|create|patch|replace|delete)_namespaced_custom_object")
_CALLS = re.compile(r"(read|list|create|patch|replace|delete|connect|watch)_\w+|call_api")
_VERBS = {"read": "get", "replace": "update", "delete_collection": "deletecollection"}
_RESOURCES = {
    "pod": ("", "pods"),
    "pod_log": ("", "pods/log"),
    "service": ("", "services"),
    "event": ("", "events"),
    "config_map": ("", "configmaps"),
    "secret": ("", "secrets"),
    "resource_quota": ("", "resourcequotas"),
    "persistent_volume_claim": ("", "persistentvolumeclaims"),
    "job": ("batch", "jobs"),
    "deployment": ("apps", "deployments"),
    "lease": ("coordination.k8s.io", "leases"),
}
_WRAPPER = "CustomResources"
_WRAPPER_MODULE = "slipway.cluster.resources"
Kind = tuple[str, str]
"""A custom resource's group and plural."""


@dataclass(frozen=True, order=True)
class Request:
    """What a Role grants."""

    group: str
    resource: str
    verb: str


def find_requests(*roots: str) -> dict[Request, set[str]]:
    """The requests of every module that `roots` (packages or modules) import, directly or not; and where each is made."""
    found: dict[Request, set[str]] = {}
    modules = reachable_modules(roots)
    kinds = _kinds(modules)
    holders = {package: _holders(package, modules, kinds) for package in {_package(module) for module in modules}}
    for module in modules:
        for request in [*_client_requests(module), *_custom_requests(module, kinds, holders[_package(module)])]:
            found.setdefault(request, set()).add(module)
    return found


def reachable_modules(roots: Iterable[str]) -> set[str]:
    """Modules of the package that are imported, wherever in a file the import stands."""
    waiting = [module for root in roots for module in _modules() if module == root or module.startswith(f"{root}.")]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imports(module)
    return reached


@cache
def _modules() -> dict[str, Path]:
    paths = (ROOT / PACKAGE).rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_modules()[module].read_text())


def _imports(module: str) -> Iterator[str]:
    type_checking = {
        inner
        for node in ast.walk(_parse(module))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(_parse(module)):
        if node in type_checking:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name in _modules())


@cache
def _client_methods() -> frozenset[str]:
    """Whatever of the `kubernetes` client makes a request."""
    interfaces = [one for name, one in vars(client).items() if isinstance(one, type) and name.endswith(("Api", "ApiClient"))]
    return frozenset(name for one in interfaces for name in vars(one) if _CALLS.fullmatch(name))


def _client_requests(module: str) -> Iterator[Request]:
    for node in ast.walk(_parse(module)):
        name = node.attr if isinstance(node, ast.Attribute) else ""
        method = _METHOD.fullmatch(name)
        if method and method[2] != "custom_object":
            assert method[2] in _RESOURCES, f"{module} calls {name}: add its resource to _RESOURCES"
            group, resource = _RESOURCES[method[2]]
            yield Request(group, resource, _VERBS.get(method[1], method[1]))
        elif not method:
            assert name not in _client_methods(), f"{module} calls {name}, which a Role of one namespace does not grant"
        assert name not in ("Watch", "DynamicClient"), f"{module} uses {name}: which requests it makes cannot be read from it"


def _package(module: str) -> str:
    return module.rpartition(".")[0]


def _custom_requests(module: str, kinds: dict[str, Kind], holders: dict[str, Kind]) -> Iterator[Request]:
    if module == _WRAPPER_MODULE:
        return
    methods = _wrapper_methods()
    for node in ast.walk(_parse(module)):
        if not isinstance(node, ast.Attribute):
            continue
        if node.attr in methods and (kind := _made_kind(node.value, kinds) or holders.get(_last_name(node.value))):
            yield from (Request(*kind, verb) for verb in methods[node.attr])
        elif method := _CUSTOM_METHOD.fullmatch(node.attr):
            (kind,) = set(holders.values())  # a direct call, where there is one kind in the package
            yield Request(*kind, _VERBS.get(method[1], method[1]))


def _made_kind(node: ast.expr, kinds: dict[str, Kind]) -> Kind | None:
    """The kind, where `node` is CustomResources(kind=...) itself."""
    if not (isinstance(node, ast.Call) and _last_name(node.func) == _WRAPPER):
        return None
    (kind,) = [_last_name(one.value) for one in node.keywords if one.arg == "kind"]
    return kinds[kind]


def _holders(package: str, modules: set[str], kinds: dict[str, Kind]) -> dict[str, Kind]:
    """Names of variables, attributes and properties of a package that hold CustomResources, and their kind.

    An argument of such a name is taken for the same.
    """
    holders: dict[str, Kind] = {}
    for module in modules:
        if _package(module) != package:
            continue
        for node in ast.walk(_parse(module)):
            names: list[str] = []
            if isinstance(node, ast.Assign):
                names = [_last_name(target) for target in node.targets]
            elif isinstance(node, ast.FunctionDef) and _last_name(node.returns) == _WRAPPER:
                names = [node.name]
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)] if names else []
            for kind in [made for call in calls if (made := _made_kind(call, kinds))]:
                for name in names:
                    assert holders.setdefault(name, kind) == kind, f"{package}: {name} holds two kinds"
    return holders


def _kinds(modules: set[str]) -> dict[str, Kind]:
    """Every constant that is a ResourceKind."""
    kinds = {}
    for module in modules:
        for node in _parse(module).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and _last_name(node.value.func) == "ResourceKind"
            ):
                given = {one.arg: ast.literal_eval(one.value) for one in node.value.keywords}
                kinds[_last_name(node.targets[0])] = (given["group"], given["plural"])
    return kinds


@cache
def _wrapper_methods() -> dict[str, set[str]]:
    """Each public method of CustomResources, and the verbs that it and those it calls use."""
    (wrapper,) = [node for node in _parse(_WRAPPER_MODULE).body if isinstance(node, ast.ClassDef) and node.name == _WRAPPER]
    functions = {node.name: node for node in wrapper.body if isinstance(node, ast.FunctionDef)}

    def verbs(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        attributes = {node.attr for node in ast.walk(functions[name]) if isinstance(node, ast.Attribute)}
        own = {method[1] for attribute in attributes if (method := _CUSTOM_METHOD.fullmatch(attribute))}
        called = (attributes & set(functions)) - seen - {name}
        return own.union(*(verbs(other, seen | {name}) for other in called))

    return {name: verbs(name) for name in functions if not name.startswith("_")}


def _last_name(node: ast.expr | None) -> str:
    """What an expression ends with: `services` of `self.services`, `graphs` of `graphs(cluster)`."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
