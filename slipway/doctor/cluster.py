"""The cluster that serves: reachable, with KServe and the platform's objects, and with the rights that Slipway needs."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from slipway.cluster.client import Cluster, open_cluster, translated_errors
from slipway.cluster.resources import CustomResources
from slipway.deploy.kserve import SERVING_RUNTIMES
from slipway.deploy.split import INFERENCE_GRAPHS
from slipway.doctor.check import Check, fail, ok, skip, warn
from slipway.doctor.serving import check_serving
from slipway.errors import ClusterError
from slipway.settings import Settings

CHECKS = ("cluster", "kserve", "platform", "rights", "nodes", "serving")
"""In this order; none but the first is made where the API server does not answer."""
RIGHTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("serving.kserve.io", "inferenceservices"): ("get", "list", "create", "patch", "delete"),
    ("apps", "deployments"): ("get",),
    ("", "pods"): ("list",),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
    ("coordination.k8s.io", "leases"): ("get", "create", "patch"),
}
"""What a deployment needs in the serving namespace, by API group and resource."""
_PERSONAL_RIGHTS: dict[tuple[str, str], tuple[str, ...]] = {("", "services/proxy"): ("get", "create")}
"""And, from outside of the cluster, for asking golden examples."""
_TIMEOUT_SECONDS = (2.0, 4.0)
_RUNTIME = "slipway"
_SECRETS = ("slipway-s3", "slipway-postgres")
_CONFIG_MAP = "slipway"
_GPU = "nvidia.com/gpu"
_APPLY = "kubectl apply -k manifests"


def check_cluster(settings: Settings) -> list[Check]:
    """All checks of the cluster of the settings, in which this process runs or which KUBECONFIG names."""
    try:
        cluster = open_cluster(settings)
        version = _get(cluster, "/version")["gitVersion"]
    except ClusterError as error:
        unreached = [skip(name, "the cluster was not reached") for name in CHECKS[1:]]
        return [fail("cluster", str(error), "Set KUBECONFIG, or leave out --target kserve."), *unreached]
    checks: list[Callable[[Settings, Cluster], list[Check]]] = [_check_kserve, _check_platform, _check_rights, _check_nodes]
    found = [ok("cluster", f"Kubernetes {version} at {cluster.core.api_client.configuration.host}")]
    for name, check in zip(CHECKS[1:], [*checks, check_serving], strict=True):
        try:
            found += check(settings, cluster)
        except ClusterError as error:
            found.append(_explain(name, error))
    return found


def _explain(name: str, error: ClusterError) -> Check:
    if error.status == HTTPStatus.FORBIDDEN:
        return warn(name, f"may not be looked at: {error}", "Ask for the right to, or look as someone who has it.")
    return fail(name, str(error), "kubectl get --raw /readyz")


def _get(cluster: Cluster, path: str) -> dict[str, Any]:
    with translated_errors(f"asking the API server for {path}"):
        answer, _, _ = cluster.core.api_client.call_api(
            path, "GET", response_type="object", auth_settings=["BearerToken"], _request_timeout=_TIMEOUT_SECONDS
        )
    content: dict[str, Any] = answer
    return content


def _check_kserve(settings: Settings, cluster: Cluster) -> list[Check]:
    wanted = {"v1beta1": ("inferenceservices",), "v1alpha1": (SERVING_RUNTIMES.plural, INFERENCE_GRAPHS.plural)}
    missing: list[str] = []
    for version, plurals in wanted.items():
        try:
            known = {entry["name"] for entry in _get(cluster, f"/apis/serving.kserve.io/{version}")["resources"]}
        except ClusterError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            known = set()
        missing += [plural for plural in plurals if plural not in known]
    if missing:
        return [fail("kserve", f"not installed: {', '.join(missing)}.serving.kserve.io", "See docs/serving-on-kserve.md")]
    runtimes = CustomResources(cluster=cluster, namespace=settings.serving_namespace, kind=SERVING_RUNTIMES)
    runtime = runtimes.get(_RUNTIME)
    if runtime is None:
        return [fail("kserve", f"no ServingRuntime {_RUNTIME} in {settings.serving_namespace}", _APPLY)]
    image = next((one["image"] for one in runtime["spec"]["containers"] if one["name"] == "kserve-container"), "no container")
    return [ok("kserve", f"installed; ServingRuntime {_RUNTIME} runs {image}")]


def _check_platform(settings: Settings, cluster: Cluster) -> list[Check]:
    namespace = settings.serving_namespace
    core = cluster.core
    lookups: list[tuple[str, Callable[[], object]]] = [
        (f"namespace {namespace}", lambda: core.read_namespace(namespace)),
        (f"ConfigMap {_CONFIG_MAP}", lambda: core.read_namespaced_config_map(_CONFIG_MAP, namespace)),
        *((f"Secret {name}", lambda name=name: core.read_namespaced_secret(name, namespace)) for name in _SECRETS),
    ]
    missing, refused = [], []
    for what, read in lookups:
        try:
            with translated_errors(f"reading {what}"):
                read()
        except ClusterError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                missing.append(what)
            elif error.status == HTTPStatus.FORBIDDEN:
                refused.append(what)
            else:
                raise
    if missing:
        return [fail("platform", f"missing in {namespace}: {', '.join(missing)}", f"make secrets && {_APPLY}")]
    if refused:
        return [skip("platform", f"may not be looked at: {', '.join(refused)}")]
    return [ok("platform", f"namespace {namespace} with its ConfigMap and Secrets")]


def _check_rights(settings: Settings, cluster: Cluster) -> list[Check]:
    from kubernetes.client import AuthorizationV1Api

    wanted = RIGHTS if settings.in_cluster else {**RIGHTS, **_PERSONAL_RIGHTS}
    review = AuthorizationV1Api(cluster.core.api_client)
    missing = [
        f"{verb} {resource}"
        for (group, resource), verbs in wanted.items()
        for verb in verbs
        if not _may(review, settings.serving_namespace, group, resource, verb)
    ]
    if missing:
        detail = f"in {settings.serving_namespace} this identity may not: {', '.join(missing)}"
        return [fail("rights", detail, "Grant what manifests/base/pipeline-runner/role.yaml grants to the pipeline runner.")]
    return [ok("rights", f"all that a deployment to {settings.serving_namespace} needs")]


def _may(review: Any, namespace: str, group: str, resource: str, verb: str) -> bool:
    main, _, part = resource.partition("/")
    attributes = {"namespace": namespace, "group": group, "resource": main, "subresource": part, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    with translated_errors("asking for this identity's rights"):
        return bool(review.create_self_subject_access_review(body, _request_timeout=_TIMEOUT_SECONDS).status.allowed)


def _check_nodes(_settings: Settings, cluster: Cluster) -> list[Check]:
    try:
        with translated_errors("listing the nodes"):
            nodes = cluster.core.list_node(_request_timeout=_TIMEOUT_SECONDS).items
    except ClusterError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return [skip("nodes", "may not be looked at")]
        raise
    ready = [node for node in nodes if _is_ready(node)]
    gpus = sum(int(node.status.allocatable.get(_GPU, 0)) for node in ready)
    shown = f"{len(ready)} of {len(nodes)} ready, {gpus or 'no'} GPU{'' if gpus == 1 else 's'}"
    if not ready:
        return [fail("nodes", shown, "kubectl describe nodes")]
    return [ok("nodes", shown) if len(ready) == len(nodes) else warn("nodes", shown, "kubectl describe nodes")]


def _is_ready(node: Any) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions or [])
