"""The services that the settings name: S3, MLflow, Kubeflow Pipelines. Asked with short bounds and never twice."""

import importlib.metadata
import sqlite3
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

from slipway.doctor.check import Check, fail, ok, skip, warn
from slipway.doctor.probe import Answer, UnreachableError, probe
from slipway.errors import StorageError
from slipway.settings import Settings
from slipway.storage.causes import find_cause
from slipway.storage.sdk import SdkError, open_client, translated_errors
from slipway.tracking.client import sqlite_path

TIMEOUT_SECONDS = 2.5
_UNAUTHORIZED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def check_s3(settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Check:
    """Whether the endpoint lists its buckets to these credentials."""
    endpoint = settings.s3_endpoint
    if not endpoint:
        return skip("s3", "no endpoint is set: everything stays on this machine", "AWS_ENDPOINT_URL=http://HOST:9000 to use one")
    if not (settings.s3_access_key and settings.s3_secret_key):
        return fail("s3", f"{endpoint} is set without credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    try:
        client = open_client(settings, timeout_seconds=timeout_seconds)
        with translated_errors():
            buckets = sorted(bucket.name for bucket in client.list_buckets())
    except StorageError as error:
        return fail("s3", *str(error).split(". ", 1))
    except SdkError as error:
        return _explain_refusal(endpoint, error)
    shown = ", ".join(buckets[:5]) + (", ..." if len(buckets) > 5 else "")  # noqa: PLR2004
    return ok("s3", f"{endpoint}: {len(buckets)} bucket{'' if len(buckets) == 1 else 's'} {shown}".rstrip())


def _explain_refusal(endpoint: str, error: SdkError) -> Check:
    if error.code == "AccessDenied":
        remedy = "Allow s3:ListAllMyBuckets, or pass over it: single buckets may still be open to these credentials."
        return warn("s3", f"{endpoint} does not list its buckets to these credentials (AccessDenied)", remedy)
    cause = find_cause(str(error)).fill(endpoint=endpoint, bucket="")
    return fail("s3", f"{endpoint}: {cause.reason}", cause.remedy)


def check_mlflow(settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Check:
    """Whether the tracking store answers, without importing MLflow."""
    uri = settings.mlflow_tracking_uri
    database = sqlite_path(settings)
    if database is not None:
        return _check_sqlite(database)
    if uri.startswith(("http://", "https://")):
        return _check_mlflow_server(uri.rstrip("/"), timeout_seconds)
    return skip("mlflow", f"{urlsplit(uri).scheme or 'a folder'} stores are not looked at from here")


def _check_sqlite(path: Path) -> Check:
    if not path.exists():
        return ok("mlflow", f"{path} (made by the first run)")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=1.0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
            (num_versions,) = connection.execute("SELECT count(*) FROM model_versions").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return fail("mlflow", f"{path} cannot be used ({error})", f"End what holds it, or begin a new one: mv {path} {path}.old")
    return ok("mlflow", f"{path}, {num_versions} model version{'' if num_versions == 1 else 's'}")


def _check_mlflow_server(uri: str, timeout_seconds: float) -> Check:
    host = urlsplit(uri).netloc.rpartition("@")[2]
    shown = uri.replace(urlsplit(uri).netloc, host)
    try:
        health = probe(f"{uri}/health", timeout_seconds=timeout_seconds)
        # /health answers whatever Host is named; only the API applies the server's list of allowed hosts.
        answer = probe(f"{uri}/api/2.0/mlflow/experiments/search", timeout_seconds=timeout_seconds, body={"max_results": 1})
    except UnreachableError as error:
        return fail("mlflow", str(error), "MLFLOW_TRACKING_URI=http://HOST:5000, or unset it to use SQLite")
    if answer.status in _UNAUTHORIZED and "Host header" in answer.text:
        remedy = f'Start it with: mlflow server --allowed-hosts "{host},{host.partition(":")[0]},localhost:*"'
        return fail("mlflow", f"{shown} refuses requests that call it {host} (Invalid Host header)", remedy)
    if answer.status in _UNAUTHORIZED:
        return warn(
            "mlflow",
            f"{shown} wants a sign-in",
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
        )
    if answer.status != HTTPStatus.OK or "experiments" not in answer.to_json():
        remedy = "Check that MLFLOW_TRACKING_URI is MLflow's address, and the server's log."
        return fail("mlflow", f"{shown} answers its API with status {answer.status}, /health with {health.status}", remedy)
    return ok("mlflow", f"{shown} ({answer.milliseconds:.0f} ms)")


def check_kfp(settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Check:
    """Whether Kubeflow Pipelines answers, and is of the SDK's version."""
    endpoint = settings.kfp_endpoint.partition("#")[0].rstrip("/")
    if not endpoint:
        return skip(
            "kfp", "no endpoint is set: pipelines run on this machine", "KF_PIPELINES_ENDPOINT=http://HOST:8888 to use one"
        )
    forward = "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80 and KF_PIPELINES_ENDPOINT=http://localhost:8080"
    try:
        answer = probe(f"{endpoint}/apis/v2beta1/healthz", timeout_seconds=timeout_seconds)
    except UnreachableError as error:
        return fail("kfp", str(error), forward)
    if answer.status != HTTPStatus.OK or "multi_user" not in answer.to_json():
        return fail("kfp", f"{endpoint} is no KFP API (status {answer.status} at /apis/v2beta1/healthz)", forward)
    return _compare_kfp(endpoint, answer)


def _compare_kfp(endpoint: str, answer: Answer) -> Check:
    server = str(answer.to_json().get("tag_name", "unknown"))
    try:
        client = importlib.metadata.version("kfp")
    except importlib.metadata.PackageNotFoundError:
        return warn("kfp", f"{endpoint}, version {server}; the SDK is not installed here", "pip install 'slipway[pipelines]'")
    if server[:1].isdigit() and server.split(".")[:2] != client.split(".")[:2]:
        remedy = f"Install the server's version {client}, or test your pipelines against {server}."
        return warn("kfp", f"{endpoint} is of version {server}, the SDK here of {client}", remedy)
    return ok("kfp", f"{endpoint}, version {server} ({answer.milliseconds:.0f} ms)")
