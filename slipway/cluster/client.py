"""The Kubernetes API: every request bounded, errors in words. Importing this module does not import the client."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import ClusterError
from slipway.settings import Settings

if TYPE_CHECKING:
    from kubernetes.client import AppsV1Api, BatchV1Api, CoordinationV1Api, CoreV1Api, CustomObjectsApi

REQUEST_SECONDS = (5.0, 30.0)
"""To connect, and to answer. Following a log or a watch states its own."""
_NUM_RETRIES = 3
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """An API server, as this process may use it."""

    namespace: str
    """The pod's own inside a cluster, else the current context's."""
    core: "CoreV1Api"
    batch: "BatchV1Api"
    apps: "AppsV1Api"
    coordination: "CoordinationV1Api"
    custom: "CustomObjectsApi"


def open_cluster(settings: Settings) -> Cluster:
    """The cluster that this process runs in, else the one of the kube config's current context. Nothing is asked of it yet.

    Raises:
        ClusterError: there is no configuration, or the client is not installed.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ClusterError(
            f"The Kubernetes client cannot be imported ({error}). Install it: pip install 'slipway[cluster]'."
        ) from error
    configuration = client.Configuration()
    try:
        if settings.in_cluster:
            config.load_incluster_config(client_configuration=configuration)
            namespace = _NAMESPACE_FILE.read_text().strip()
        else:
            config.load_kube_config(client_configuration=configuration)
            namespace = config.list_kube_config_contexts()[1]["context"].get("namespace") or "default"
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"No Kubernetes cluster is configured: {error} Set KUBECONFIG=/path/to/kubeconfig, or choose a local target."
        ) from error
    configuration.retries = _NUM_RETRIES
    api = _bound_requests(client.ApiClient(configuration))
    return Cluster(
        namespace=namespace,
        core=client.CoreV1Api(api),
        batch=client.BatchV1Api(api),
        apps=client.AppsV1Api(api),
        coordination=client.CoordinationV1Api(api),
        custom=client.CustomObjectsApi(api),
    )


def _bound_requests(api: Any) -> Any:
    """The client waits for ever unless each call says how long; give every one that does not a bound."""
    unbounded = api.request

    def request(*arguments: Any, **keywords: Any) -> Any:
        keywords["_request_timeout"] = keywords.get("_request_timeout") or REQUEST_SECONDS
        return unbounded(*arguments, **keywords)

    api.request = request
    return api


@contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Turn the client's errors into a ClusterError that names the action, the server's own words and the remedy."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError, MaxRetryError

    try:
        yield
    except ApiException as error:
        raise ClusterError(
            f"{action} failed: {_server_words(error)} {_remedy(error.status)}".strip(), status=error.status
        ) from error
    except HTTPError as error:
        cause = error.reason if isinstance(error, MaxRetryError) else error
        raise ClusterError(
            f"{action} failed: the API server does not answer ({cause}). Check KUBECONFIG and `kubectl get nodes`."
        ) from error


def _server_words(error: Any) -> str:
    try:
        words = json.loads(error.body)["message"]
    except (json.JSONDecodeError, KeyError, TypeError):
        words = error.reason or "no reason given"
    return f"the API server answers {error.status}: {str(words).strip()[:1000]}"


def _remedy(status: int) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "Sign in to the cluster again."
    if status == HTTPStatus.FORBIDDEN:
        return (
            "The service account lacks this right, or a policy of the namespace refuses; docs/cluster.md lists what is granted."
        )
    if status == HTTPStatus.NOT_FOUND:
        return (
            "If it is a whole kind of object that is missing, its custom resource definition is not installed (docs/cluster.md)."
        )
    return ""
