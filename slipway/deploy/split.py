"""A/B between what serves and another version: a second InferenceService, and a Splitter in front of both."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from slipway.cluster.client import Cluster, translated_errors
from slipway.cluster.resources import CustomResources, Manifest, ResourceKind
from slipway.deploy.inference_service import MODEL_NAME, read_record
from slipway.deploy.kserve import KServeTarget
from slipway.deploy.naming import inference_service_name, second_name
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.smoke import check_golden_examples
from slipway.deploy.versions import find_servable, obtain_bundle
from slipway.errors import ClusterError, DeployError
from slipway.serving.record import ServingRecord, succeed
from slipway.settings import Settings
from slipway.tracking.registry import ModelRegistry

INFERENCE_GRAPHS = ResourceKind(kind="InferenceGraph", group="serving.kserve.io", version="v1alpha1", plural="inferencegraphs")
_TEMPLATE = Path(__file__).parent / "inference-graph.yaml"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Who gets which share of the requests that come through the graph."""

    champion: ServingRecord
    second: ServingRecord
    weight: int
    """Of `second`, in percent."""
    url: str
    """Where the graph answers, inside the cluster."""


def graph_namespace(settings: Settings) -> str:
    """Where the Splitter lives by default: its router is not admitted under Pod Security restricted, so beside the platform."""
    return f"{settings.serving_namespace}-ab"


def split_traffic(
    settings: Settings, cluster: Cluster, model_name: str, policy: SmokePolicy, *, version: str, weight: int, namespace: str = ""
) -> Split:
    """Let `version` answer a share of the requests, once it has answered its golden examples.

    What serves goes on serving at its own address, untouched; only requests through the graph are split. Said again with
    another weight, the shares change and nothing is restarted.

    Raises:
        DeployError: nothing serves, or the version does not answer, and there is no split then; or it has a graph elsewhere.
        ClusterError: the graph cannot be made, for want of its namespace, say.
    """
    target = KServeTarget(settings, cluster)
    with target.lock(model_name, timeout_seconds=policy.lock_seconds):
        champion = target.read_serving(model_name)
        if champion is None:
            raise DeployError(f"Nothing serves as {model_name}, so there is nothing to split with. Deploy a version first.")
        if champion.version == version:
            raise DeployError(f"Version {version} serves already; name another one of `slipway models {model_name}` with --to.")
        known = target.read_graph_namespace(model_name)
        graphs = _graphs(cluster, namespace or known or graph_namespace(settings))
        if known not in ("", graphs.namespace) and _is_owned(
            _graphs(cluster, known).get(inference_service_name(model_name)), model_name
        ):
            raise DeployError(
                f"{model_name} has a split in namespace {known}. Leave --graph-namespace out, or end it first (--end)."
            )
        _require_namespace(graphs)
        second = _launch_second(settings, target, model_name, policy, version)
        target.note_graph_namespace(model_name, graphs.namespace)
        graphs.apply(build_graph(settings, graphs.namespace, model_name, weight))
    name = inference_service_name(model_name)
    return Split(champion=champion, second=second, weight=weight, url=f"http://{name}.{graphs.namespace}.svc.cluster.local")


def end_split(settings: Settings, cluster: Cluster, model_name: str, policy: SmokePolicy, *, namespace: str = "") -> bool:
    """Take down the graph, wherever it was made, then the second version; whether anything stood there (what is on its way out
    already does not count).

    What bears the names and belongs to somebody else is left alone.
    """
    target = KServeTarget(settings, cluster)
    name = inference_service_name(model_name)
    with target.lock(model_name, timeout_seconds=policy.lock_seconds):
        known = target.read_graph_namespace(model_name)
        places = dict.fromkeys(place for place in (namespace, known) if place) or (graph_namespace(settings),)
        found = [(graphs, graphs.get(name)) for graphs in (_graphs(cluster, place) for place in places)]
        found.append((target.services, target.services.get(second_name(name))))
        own = [(resources, manifest) for resources, manifest in found if manifest is not None and _is_owned(manifest, model_name)]
        for resources, manifest in own:
            resources.delete(manifest)
        if known:
            target.note_graph_namespace(model_name, "")
    return any("deletionTimestamp" not in manifest["metadata"] for _, manifest in own)


def _is_owned(manifest: Manifest | None, model_name: str) -> bool:
    return manifest is not None and manifest["metadata"].get("annotations", {}).get(MODEL_NAME) == model_name


def _launch_second(settings: Settings, target: KServeTarget, model_name: str, policy: SmokePolicy, version: str) -> ServingRecord:
    """Bring the second InferenceService up, unless it runs; it is gone again where its version does not answer."""
    name = second_name(inference_service_name(model_name))
    registry = ModelRegistry(settings)
    wanted = find_servable(registry, model_name, version)
    running = target.services.get(name)
    if running is None or "deletionTimestamp" in running["metadata"]:
        target.remove(name, model_name)
        running = None
    elif read_record(running, confirmed_at="").version != version:
        other = read_record(running, confirmed_at="").version
        raise DeployError(f"Version {other} of {model_name} has a share already. End that split first (--end).")
    with TemporaryDirectory(prefix="slipway-split-") as folder:
        served, bundle = obtain_bundle(target, registry, model_name, wanted, Path(folder))
        record = read_record(running, confirmed_at="") if running else succeed(None, served, model_name=model_name)
        try:
            manifest = running or target.write(name, "second", record)
            endpoint = target.open_endpoint(manifest, record, timeout_seconds=policy.timeout_seconds)
            check_golden_examples(endpoint, bundle, tolerance=policy.tolerance, timeout_seconds=policy.timeout_seconds)
        except BaseException:
            if running is None:
                target.remove(name, model_name, wait=False)
            raise
    return record


def _graphs(cluster: Cluster, namespace: str) -> CustomResources:
    return CustomResources(cluster=cluster, namespace=namespace, kind=INFERENCE_GRAPHS)


def _require_namespace(graphs: CustomResources) -> None:
    try:
        with translated_errors(f"reading namespace {graphs.namespace}"):
            graphs.cluster.core.read_namespace(graphs.namespace)
    except ClusterError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            return  # whoever may not look may still make the graph
        labels = "pod-security.kubernetes.io/enforce=baseline slipway.dev/client=true"
        raise ClusterError(
            f"There is no namespace {graphs.namespace} for the graph, whose router Pod Security restricted does not admit. Make "
            f"it: kubectl create namespace {graphs.namespace} && kubectl label namespace {graphs.namespace} {labels}; or name "
            "another with --graph-namespace.",
            status=HTTPStatus.NOT_FOUND,
        ) from None


def build_graph(settings: Settings, namespace: str, model_name: str, weight: int) -> Manifest:
    """The Splitter's manifest, from `inference-graph.yaml`."""
    name = inference_service_name(model_name)
    manifest: Manifest = yaml.safe_load(_TEMPLATE.read_text())
    manifest["metadata"] |= {"name": name, "namespace": namespace}
    manifest["metadata"]["annotations"][MODEL_NAME] = model_name
    champion, second = manifest["spec"]["nodes"]["root"]["steps"]
    for step, service, share in ((champion, name, 100 - weight), (second, second_name(name), weight)):
        host = f"{service}-predictor.{settings.serving_namespace}.svc.cluster.local"
        step |= {"serviceUrl": f"http://{host}/v2/models/{service}/infer", "weight": share}
    return manifest
