"""KFP's client against an endpoint: never a prompt, no kube config, every request bounded, errors in words."""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3
from urllib3.exceptions import HTTPError

from slipway.doctor.probe import Answer, UnreachableError, probe
from slipway.errors import ConfigError, SubmitError

PROBE_SECONDS = 5.0
_REQUEST_SECONDS = (5.0, 30.0)
_SIGN_IN = (301, 302, 303, 307, 308, 401, 403)


def parse_endpoint(text: str) -> str:
    """The endpoint's base address; an address pasted from the dashboard loses what follows the `#`.

    Raises:
        ConfigError: it has no scheme, or is empty.
    """
    endpoint = text.partition("#")[0].strip().rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        hint = f" Did you mean http://{endpoint}?" if endpoint else " Set --endpoint or KF_PIPELINES_ENDPOINT."
        raise ConfigError(f"the KFP endpoint is {text!r}; accepted: http://HOST[:PORT] or https://HOST[/PATH].{hint}")
    return endpoint


def open_client(endpoint: str) -> kfp.Client:
    """A client of the API at `endpoint`, which is asked once whether it answers.

    Raises:
        SubmitError: it cannot be reached, refuses, or is no KFP API.
    """
    try:
        answer = probe(f"{endpoint}/apis/v2beta1/healthz", timeout_seconds=PROBE_SECONDS)
    except UnreachableError as error:
        raise SubmitError(f"no KFP endpoint: {error}") from None
    if answer.status != HTTPStatus.OK or "multi_user" not in answer.to_json():
        raise SubmitError(_explain_probe(endpoint, answer))
    with warnings.catch_warnings(), quiet_kfp():
        warnings.simplefilter("ignore", FutureWarning)  # the client warns of servers older than 2.0, whatever it talks to
        client = kfp.Client(host=endpoint)
    _bound_requests(client.runs.api_client)
    return client


def _explain_probe(endpoint: str, answer: Answer) -> str:
    status = answer.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return (
            f"the KFP API at {endpoint} fails with status {status}. Look at its log: kubectl -n kubeflow logs deploy/ml-pipeline"
        )
    if status in _SIGN_IN:
        remedy = "Forward a port to the Service ml-pipeline-ui, or give an address behind the sign-in."
        return f"{endpoint} wants a sign-in first (status {status}). {remedy}"
    remedy = "Give the address of the Service ml-pipeline-ui or ml-pipeline."
    return f"{endpoint} answers and is no KFP API (status {status} at /apis/v2beta1/healthz). {remedy}"


def _bound_requests(api_client: Any) -> None:
    """KFP's client waits for ever on a connection that hangs (a port-forward whose pod is gone); bound each request."""
    unbounded = api_client.request

    def request(*arguments: Any, **keywords: Any) -> Any:
        keywords["_request_timeout"] = keywords.get("_request_timeout") or _REQUEST_SECONDS
        return unbounded(*arguments, **keywords)

    api_client.request = request


@contextlib.contextmanager
def quiet_kfp() -> Iterator[None]:
    """KFP's client prints links of its own to standard output."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def translated_errors(endpoint: str, action: str) -> Iterator[None]:
    """Turn the client's errors into a SubmitError that names the action, the status and the server's own words."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        raise SubmitError(f"{action} at {endpoint} failed with status {error.status}: {_server_words(error)}") from error
    except HTTPError as error:
        cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
        raise SubmitError(f"{action}: the KFP API at {endpoint} stopped answering ({cause}).") from error


def _server_words(error: kfp_server_api.ApiException) -> str:
    try:
        content = json.loads(error.body or "")
        words = content.get("error_message") or content.get("message") or content.get("error")
    except (json.JSONDecodeError, AttributeError):
        words = error.body
    return str(words or error.reason).strip()[:1000]
