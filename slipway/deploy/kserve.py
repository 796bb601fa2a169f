"""The KServe deploy target: an InferenceService a model, changed in place; a second one beside it for a dark launch.

The pods that serve are replaced one by one: a new one is ready before an old one goes, and an old one goes on answering until no
request reaches it any more. What serves, and what served before, stands in the InferenceService's annotations; whether the
registry has followed stands on the Lease that serialises deployments: a note on the InferenceService would replace its pods.
"""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from slipway.cluster.client import Cluster
from slipway.cluster.lease import HeldLease, hold_lease, read_lease_annotations
from slipway.cluster.resources import CustomResources, Manifest, ResourceKind
from slipway.deploy.bundles import fetch_bundle, publish_bundle
from slipway.deploy.inference_service import (
    CHAMPION_SELECTOR,
    MODEL_NAME,
    PROMOTED_AT,
    InferenceServiceValues,
    Replicas,
    Role,
    build_inference_service,
    plan_replicas,
    read_record,
)
from slipway.deploy.naming import challenger_name, inference_service_name, lease_name
from slipway.deploy.proxy import ServiceProxy
from slipway.deploy.rollout import Wanted, await_rollout, count_restarts, find_troubles, is_complete, look
from slipway.deploy.target import Candidate, Endpoint
from slipway.errors import BundleError, ConfigError, DeployError, RequestError, ServerError, SlipwayError
from slipway.export.bundle import Bundle
from slipway.log import get_logger
from slipway.serving.record import ServedVersion, ServingRecord, succeed
from slipway.settings import Settings
from slipway.storage.uri import is_remote

INFERENCE_SERVICES = ResourceKind(
    kind="InferenceService", group="serving.kserve.io", version="v1beta1", plural="inferenceservices"
)
SERVING_RUNTIMES = ResourceKind(kind="ServingRuntime", group="serving.kserve.io", version="v1alpha1", plural="servingruntimes")
CONFIRMED = "slipway.dev/confirmed"
"""Annotation of the Lease: the promotion that the registry's alias has followed."""
GRAPH_NAMESPACE = "slipway.dev/graph-namespace"
"""Annotation of the Lease: where the graph of the model's split is; "" or none where there is no split."""
_RESTORE_SECONDS = 60.0
_DELETE_SECONDS = 90.0
"""Pods that answer to the last take their time."""
_ANSWER_SECONDS = 15.0
_ANSWERS_IN_A_ROW = 3
_POLL_SECONDS = 0.1
_HTTP_PORT = 80

_log = get_logger(__name__)


class KServeTarget:
    """Serves from InferenceServices in the settings' serving namespace. See `slipway.deploy.target` for what is promised."""

    def __init__(self, settings: Settings, cluster: Cluster, *, replicas: Replicas | None = None) -> None:
        """`replicas` of None leaves their number as it is."""
        self._settings = settings
        self._cluster = cluster
        self._namespace = settings.serving_namespace
        self._replicas = replicas
        self._leases: dict[str, HeldLease] = {}
        self._replaced: dict[str, Manifest] = {}
        self._promoted: dict[str, str] = {}
        """By model, the promotion that this process made last."""

    @property
    def services(self) -> CustomResources:
        """The InferenceServices of the namespace."""
        return CustomResources(cluster=self._cluster, namespace=self._namespace, kind=INFERENCE_SERVICES)

    @contextmanager
    def lock(self, model_name: str, *, timeout_seconds: float) -> Iterator[None]:
        """See `DeployTarget.lock`. Where the lease is lost, nothing more is changed."""
        name = lease_name(inference_service_name(model_name))
        holder = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        with ExitStack() as stack:
            held = hold_lease(self._cluster, self._namespace, name, holder=holder, timeout_seconds=timeout_seconds)
            try:
                self._leases[model_name] = stack.enter_context(held)
            except TimeoutError as error:
                raise DeployError(f"Another deployment of {model_name} goes on: {error} Try again when it has ended.") from None
            stack.callback(self._leases.pop, model_name)
            yield

    def read_serving(self, model_name: str) -> ServingRecord | None:
        """See `DeployTarget.read_serving`."""
        name = inference_service_name(model_name)
        manifest = self.services.get(name)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None
        record = read_record(manifest, confirmed_at=self._read_note(model_name, CONFIRMED))
        _check_owner(manifest, model_name)
        return record

    def list_serving(self) -> list[ServingRecord]:
        """See `DeployTarget.list_serving`."""
        found = self.services.list(CHAMPION_SELECTOR)
        names = [manifest["metadata"].get("annotations", {}).get(MODEL_NAME, "") for manifest in found]
        records = [self.read_serving(name) for name in names if name]
        return [record for record in records if record is not None]

    def store_bundle(self, model_name: str, version: str, bundle_dir: Path) -> str:  # noqa: ARG002 - the bundle's id suffices
        """See `DeployTarget.store_bundle`. Versions of several registries share what is the same.

        Raises:
            ConfigError: the settings name no object store.
        """
        if not is_remote(self._settings.models_uri):
            raise ConfigError(
                f"SLIPWAY_STATE_URI is {self._settings.state_uri!r}; accepted for KServe: s3://BUCKET/FOLDER, where pods can "
                "fetch bundles. Set it as the ConfigMap `slipway` of the serving namespace does."
            )
        return publish_bundle(self._settings, model_name, bundle_dir)

    def read_bundle(self, served: ServedVersion, folder: Path) -> Bundle:
        """See `DeployTarget.read_bundle`."""
        if not is_remote(served.bundle_uri):
            raise BundleError(f"Version {served.version} lies nowhere that a cluster can fetch it from.")
        return fetch_bundle(self._settings, served.bundle_uri, folder)

    @contextmanager
    def dark_launch(self, candidate: Candidate, *, timeout_seconds: float) -> Iterator[Endpoint]:
        """See `DeployTarget.dark_launch`. An InferenceService of its own; one that a killed process has left is removed first."""
        name = challenger_name(inference_service_name(candidate.model_name))
        self.remove(name, candidate.model_name)
        record = succeed(None, candidate.served, model_name=candidate.model_name)
        try:
            yield self.open_endpoint(self.write(name, "challenger", record), record, timeout_seconds=timeout_seconds)
        finally:
            self._remove_challenger(name, record)

    def promote(self, candidate: Candidate) -> ServingRecord:
        """See `DeployTarget.promote`. One patch; the pods follow."""
        name = inference_service_name(candidate.model_name)
        current = self.read_serving(candidate.model_name)
        if current is None:
            self.services.await_deleted(name, timeout_seconds=_DELETE_SECONDS)
        record = succeed(current, candidate.served, model_name=candidate.model_name)
        before = self.services.get(name)
        if before is not None:
            self._replaced[candidate.model_name] = before
        self._promoted[candidate.model_name] = record.promoted_at
        self.write(name, "champion", record, expected=current)
        return record

    @contextmanager
    def serving_endpoint(self, record: ServingRecord, *, timeout_seconds: float) -> Iterator[Endpoint | None]:
        """See `DeployTarget.serving_endpoint`."""
        manifest = self._get(inference_service_name(record.model_name))
        yield self.open_endpoint(manifest, record, timeout_seconds=timeout_seconds)

    def confirm(self, model_name: str) -> ServingRecord:
        """See `DeployTarget.confirm`."""
        record = self.read_serving(model_name)
        if record is None:
            raise DeployError(f"{model_name} was taken out of service by someone else.")
        self._leases[model_name].annotate(CONFIRMED, record.promoted_at)
        confirmed = self.read_serving(model_name)
        if confirmed is None or not confirmed.confirmed:
            raise DeployError(f"What serves as {model_name} was changed by someone else.")
        return confirmed

    def read_graph_namespace(self, model_name: str) -> str:
        """Where the graph of the model's split was made; "" where there is none."""
        return self._read_note(model_name, GRAPH_NAMESPACE)

    def note_graph_namespace(self, model_name: str, namespace: str) -> None:
        """Keep in mind where the graph is, for whoever ends the split. Inside `lock`."""
        self._leases[model_name].annotate(GRAPH_NAMESPACE, namespace)

    def restore(self, model_name: str, record: ServingRecord | None) -> None:
        """See `DeployTarget.restore`. While an old pod still runs it is only kept, and none is started."""
        name = inference_service_name(model_name)
        self._check_lease(model_name)
        self._check_promoted(self.services.get(name), model_name, record)
        if record is None:
            self.remove(name, model_name, wait=False)
            return
        replaced = self._replaced.get(model_name)
        if replaced is not None and replaced["metadata"]["annotations"].get(PROMOTED_AT) == record.promoted_at:
            manifest = self._write_back(replaced, model_name, record)
        else:
            manifest = self.write(name, "champion", record)
        self._await_rollout(manifest, record, _RESTORE_SECONDS)

    def adjust(self, model_name: str) -> None:
        """See `DeployTarget.adjust`. An autoscaler that comes or goes is an annotation, which would replace the pods."""
        if self._replicas is None:
            return
        manifest = self._get(inference_service_name(model_name))
        wanted = plan_replicas(manifest, self._replicas)
        if wanted is None:
            _log.warning("the number of replicas changes with the next version: it takes an autoscaler", model=model_name)
            return
        promoted_at = manifest["metadata"]["annotations"][PROMOTED_AT]

        def check(current: Manifest | None) -> None:
            self._check_lease(model_name)
            if current is None or current["metadata"]["annotations"].get(PROMOTED_AT) != promoted_at:
                raise DeployError(f"What serves as {model_name} was changed by someone else meanwhile.")

        metadata = {"name": manifest["metadata"]["name"], "namespace": self._namespace}
        self.services.apply({"metadata": metadata, "spec": {"predictor": wanted}}, check=check)

    def remove_unused(self, model_name: str) -> None:
        """See `DeployTarget.remove_unused`. Bundles stay: the registry's versions are these very files."""

    def describe_trouble(self, record: ServingRecord) -> str:
        """What keeps the version that `record` says serves from doing so at this moment; "" where nothing does."""
        wanted = _wanted(self._get(inference_service_name(record.model_name)), record)
        sight = look(self.services, wanted)
        if is_complete(wanted, sight):
            return ""
        return next((trouble.text for trouble in find_troubles(wanted, sight)), "its pods are being replaced")

    def write(self, name: str, role: Role, record: ServingRecord, *, expected: ServingRecord | None = None) -> Manifest:
        """Let the InferenceService `name` serve what `record` says; with `expected`, only if it serves that now."""
        values = InferenceServiceValues(name=name, namespace=self._namespace, role=role, record=record, replicas=self._replicas)

        def check(current: Manifest | None) -> None:
            self._check_lease(record.model_name)
            if current is not None:
                _check_owner(current, record.model_name)
            if expected is not None:
                at = current["metadata"]["annotations"].get(PROMOTED_AT) if current is not None else None
                if at not in (expected.promoted_at, record.promoted_at):
                    raise DeployError(f"What serves as {record.model_name} was changed by someone else meanwhile.")

        return self.services.apply(build_inference_service(values), check=check)

    def remove(self, name: str, model_name: str, *, wait: bool = True) -> None:
        """Delete the InferenceService `name` of this model, if there is one; with `wait`, until its pods are gone."""
        manifest = self.services.get(name)
        if manifest is None:
            return
        self._check_lease(model_name)
        _check_owner(manifest, model_name)
        self.services.delete(manifest)
        if wait:
            self.services.await_deleted(name, timeout_seconds=_DELETE_SECONDS)

    def open_endpoint(self, manifest: Manifest, record: ServingRecord, *, timeout_seconds: float) -> Endpoint:
        """Where an InferenceService answers, once its address leads to the version's pods and to no others.

        Raises:
            DeployError: it does not come up; the message says why.
        """
        manifest = self._await_rollout(manifest, record, timeout_seconds)
        parts = urlsplit(manifest.get("status", {}).get("address", {}).get("url", ""))
        if not parts.hostname:
            raise DeployError(
                f"InferenceService {manifest['metadata']['name']} is ready and has no address (status.address.url)."
            )
        name, version = manifest["metadata"]["name"], record.version
        check_health = self._watch_pods(_wanted(manifest, record))
        if self._settings.in_cluster:
            endpoint = Endpoint(
                url=f"{parts.scheme}://{parts.netloc}", model_name=name, version=version, check_health=check_health
            )
        else:
            proxy = ServiceProxy(cluster=self._cluster)
            address = proxy.url(self._namespace, parts.hostname.partition(".")[0], parts.port or _HTTP_PORT)
            endpoint = Endpoint(url=address, model_name=name, version=version, send=proxy, check_health=check_health)
        _await_answers(endpoint)
        return endpoint

    def _write_back(self, replaced: Manifest, model_name: str, record: ServingRecord) -> Manifest:
        """Let an InferenceService be what it was, to the letter: then its old pods are those that it wants."""
        metadata = replaced["metadata"]
        kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata}
        desired = {**replaced, "metadata": kept}
        desired.pop("status", None)

        def removes(path: str) -> bool:
            return path.startswith((".spec.", ".metadata.annotations.slipway.dev/", ".metadata.annotations.serving.kserve.io/"))

        def check(current: Manifest | None) -> None:
            self._check_lease(model_name)
            self._check_promoted(current, model_name, record)

        return self.services.apply(desired, check=check, remove=removes)

    def _check_promoted(self, current: Manifest | None, model_name: str, record: ServingRecord | None) -> None:
        """See that what serves is this process's promotion, or `record` already, and not what somebody else has put there."""
        promoted = self._promoted.get(model_name)
        if current is None or promoted is None:
            return
        at = current["metadata"].get("annotations", {}).get(PROMOTED_AT)
        if at not in (promoted, record.promoted_at if record else promoted):
            raise DeployError(f"What serves as {model_name} was changed by someone else meanwhile, and is left as it is.")

    def _remove_challenger(self, name: str, record: ServingRecord) -> None:
        """Take down a dark launch, if it is still this one. That it cannot be is no reason to fail what it has shown."""
        try:
            manifest = self.services.get(name)
            if manifest is not None and manifest["metadata"]["annotations"].get(PROMOTED_AT) == record.promoted_at:
                self.services.delete(manifest)
        except SlipwayError as error:
            _log.warning("challenger left behind", name=name, namespace=self._namespace, error=str(error))

    def _read_note(self, model_name: str, key: str) -> str:
        """An annotation of the Lease."""
        name = lease_name(inference_service_name(model_name))
        return read_lease_annotations(self._cluster, self._namespace, name).get(key, "")

    def _check_lease(self, model_name: str) -> None:
        self._leases[model_name].check()

    def _get(self, name: str) -> Manifest:
        manifest = self.services.get(name)
        if manifest is None:
            raise DeployError(f"InferenceService {self._namespace}/{name} was deleted by someone else.")
        return manifest

    def _await_rollout(self, manifest: Manifest, record: ServingRecord, timeout_seconds: float) -> Manifest:
        return await_rollout(
            self.services,
            _wanted(manifest, record),
            timeout_seconds=timeout_seconds,
            check=lambda: self._check_lease(record.model_name),
        )

    def _watch_pods(self, wanted: Wanted) -> Callable[[], None]:
        restarts = count_restarts(look(self.services, wanted))

        def check() -> None:
            sight = look(self.services, wanted)
            trouble = next((one for one in find_troubles(wanted, sight) if one.kind == "crash"), None)
            if trouble is not None or count_restarts(sight) > restarts:
                raise DeployError(f"{wanted.name} was restarted: {trouble.text if trouble else 'its container ended'}.")

        return check


def _wanted(manifest: Manifest, record: ServingRecord) -> Wanted:
    metadata = manifest["metadata"]
    return Wanted(name=metadata["name"], uid=metadata["uid"], storage_uri=record.bundle_uri, promoted_at=record.promoted_at)


def _check_owner(manifest: Manifest, model_name: str) -> None:
    metadata = manifest["metadata"]
    owner = metadata.get("annotations", {}).get(MODEL_NAME, "")
    if owner != model_name:
        raise DeployError(
            f"InferenceService {metadata['namespace']}/{metadata['name']} belongs to {owner or 'nobody that Slipway knows'}, "
            f"not to the model {model_name}. Set deploy.model_name to another name, or delete it."
        )


def _await_answers(endpoint: Endpoint) -> None:
    """Wait until several answers in a row come from the version: a Service's changes take a moment to reach every node."""
    url = f"{endpoint.url}/v2/models/{endpoint.model_name}/versions/{endpoint.version}/ready"
    deadline = time.monotonic() + _ANSWER_SECONDS
    in_a_row = 0
    while in_a_row < _ANSWERS_IN_A_ROW:
        try:
            endpoint.send(url, timeout_seconds=2.0)
            in_a_row += 1
        except (RequestError, ServerError) as error:
            in_a_row = 0
            if time.monotonic() >= deadline:
                raise DeployError(
                    f"{endpoint.model_name} is ready, but version {endpoint.version} does not answer at its address after "
                    f"{_ANSWER_SECONDS:g} s: {error}"
                ) from None
        time.sleep(_POLL_SECONDS)
