"""The loop: look at all InferenceServices, and bring about what they say."""

from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiException

from slipway.cluster.client import Cluster
from slipway.log import get_logger
from tests.kserve_standin.status import invalid_status, status_of
from tests.kserve_standin.workload import (
    HASH_ANNOTATION,
    SERVICE_LABEL,
    Manifest,
    build_deployment,
    build_service,
    is_known_scheme,
    predictor_name,
)

_GROUP = "serving.kserve.io"
_NOT_FOUND = 404
_HARMLESS = (404, 409)
"""What was read is no longer so: the next look sees what is."""

_log = get_logger(__name__)


class Controller:
    """Reconciles InferenceServices in the namespaces with these labels; in all where there are none."""

    def __init__(self, cluster: Cluster, *, initializer_image: str, namespace_selector: str = "") -> None:
        self._cluster = cluster
        self._selector = namespace_selector
        self._image = initializer_image
        self._told: set[tuple[str, str]] = set()

    def reconcile(self) -> None:
        """Look at everything once. What fails for one InferenceService is logged and tried again at the next look."""
        try:
            services = self._cluster.custom.list_cluster_custom_object(_GROUP, "v1beta1", "inferenceservices")["items"]
            namespaces = self._cluster.core.list_namespace(label_selector=self._selector).items
        except Exception as error:  # noqa: BLE001 - the loop goes on
            _log.error("reconcile_failed", error=repr(error))
            return
        looked_after = {namespace.metadata.name for namespace in namespaces}
        for service in services:
            if "deletionTimestamp" in service["metadata"] or service["metadata"]["namespace"] not in looked_after:
                continue
            try:
                self._reconcile(service)
            except Exception as error:  # noqa: BLE001 - one that fails holds up no other
                if not (isinstance(error, ApiException) and error.status in _HARMLESS):
                    _log.error("reconcile_failed", name=service["metadata"]["name"], error=f"{error!r} {error}"[:2000])

    def _reconcile(self, service: Manifest) -> None:
        metadata, predictor = service["metadata"], service["spec"]["predictor"]
        namespace = metadata["namespace"]
        runtime = self._find_runtime(namespace, predictor["model"]["runtime"])
        if runtime is None:
            self._write_status(service, invalid_status(service, "Waiting for runtime to become available"))
            return
        if not is_known_scheme(predictor["model"]["storageUri"]):
            self._warn(service, f"storageUri {predictor['model']['storageUri']} is of no supported scheme")
            return
        account = self._cluster.core.read_namespaced_service_account(predictor["serviceAccountName"], namespace)
        names = [reference.name for reference in account.secrets or []]
        secrets = {name: self._cluster.core.read_namespaced_secret(name, namespace) for name in names}
        wanted = build_deployment(service, runtime, account, secrets, self._image)
        deployment = self._write_workload(service, runtime, wanted)
        selector = f"{SERVICE_LABEL}={metadata['name']}"
        pods = self._cluster.core.list_namespaced_pod(namespace, label_selector=selector).items
        self._write_status(service, status_of(service, deployment, pods))

    def _find_runtime(self, namespace: str, name: str) -> Manifest | None:
        try:
            found: Manifest = self._cluster.custom.get_namespaced_custom_object(
                _GROUP, "v1alpha1", namespace, "servingruntimes", name
            )
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    def _write_workload(self, service: Manifest, runtime: Manifest, wanted: Manifest) -> Any:
        name, namespace = predictor_name(service), service["metadata"]["namespace"]
        try:
            current = self._cluster.apps.read_namespaced_deployment(name, namespace)
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            self._create_service(service, runtime)
            return self._cluster.apps.create_namespaced_deployment(namespace, wanted)
        if current.metadata.deletion_timestamp is not None:
            return current
        if (current.metadata.annotations or {}).get(HASH_ANNOTATION) == wanted["metadata"]["annotations"][HASH_ANNOTATION]:
            return current
        wanted["metadata"]["resourceVersion"] = current.metadata.resource_version
        return self._cluster.apps.replace_namespaced_deployment(name, namespace, wanted)

    def _create_service(self, service: Manifest, runtime: Manifest) -> None:
        try:
            self._cluster.core.create_namespaced_service(service["metadata"]["namespace"], build_service(service, runtime))
        except ApiException as error:
            if error.status not in _HARMLESS:
                raise

    def _write_status(self, service: Manifest, status: Manifest) -> None:
        if service.get("status") == status:
            return
        metadata = service["metadata"]
        body = {**service, "status": status}
        self._cluster.custom.replace_namespaced_custom_object_status(
            _GROUP, "v1beta1", metadata["namespace"], "inferenceservices", metadata["name"], body
        )

    def _warn(self, service: Manifest, message: str) -> None:
        metadata = service["metadata"]
        if (metadata["uid"], message) in self._told:
            return
        self._told.add((metadata["uid"], message))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": service["apiVersion"],
                "kind": service["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": "InternalError",
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "v1beta1Controllers"},
        }
        self._cluster.core.create_namespaced_event(metadata["namespace"], event)
