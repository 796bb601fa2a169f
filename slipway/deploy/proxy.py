"""Asking a Service of a cluster from outside of it, through the API server: with a person's own rights and nothing opened."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from slipway.cluster.client import Cluster
from slipway.errors import RequestError, ServerError

_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class ServiceProxy:
    """Sends what `slipway.serving.client.request_json` would send. Needs the right to get and create `services/proxy`."""

    cluster: Cluster

    def url(self, namespace: str, service: str, port: int) -> str:
        """What the addresses of a Service begin with."""
        host: str = self.cluster.core.api_client.configuration.host
        return f"{host.rstrip('/')}/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy"

    def __call__(self, url: str, body: bytes | None = None, *, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """GET `url`, or POST `body` to it, and parse the answer.

        Raises:
            RequestError: the predictor refused the request.
            ServerError: it cannot be reached, failed, or did not answer in time.
        """
        import urllib3

        client = self.cluster.core.api_client
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        client.update_params_for_auth(headers, [], ["BearerToken"])
        try:
            response = client.rest_client.pool_manager.request(
                "GET" if body is None else "POST",
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=timeout_seconds),
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ServerError(f"{url} does not answer ({error}). Check KUBECONFIG and `kubectl get nodes`.") from None
        return _parse(url, response.status, response.data)


def _parse(url: str, status: int, content: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(content)
    except json.JSONDecodeError:
        raise ServerError(f"{url} answers {status} without JSON: {content[:200]!r}") from None
    if status == HTTPStatus.OK:
        return answer
    if answer.get("kind") == "Status":  # the API server's own word, not the predictor's
        raise ServerError(f"{url}: the API server answers {status}: {answer.get('message', '')}")
    message = str(answer.get("error", answer))
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RequestError(message)
    raise ServerError(f"{url}: {message}")
