"""The services that the settings name: S3, MLflow, Kubeflow Pipelines. Asked with short bounds and never twice."""

import importlib.metadata
import sqlite3
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import ParseError

from slipway.doctor.check import Check, fail, ok, skip, warn
from slipway.doctor.probe import Answer, UnreachableError, probe
from slipway.settings import Settings
from slipway.tracking.client import sqlite_path

TIMEOUT_SECONDS = 2.5
_UNAUTHORIZED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_S3_REMEDIES = {
    "InvalidAccessKeyId": ("the access key is not known there", "Correct AWS_ACCESS_KEY_ID."),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", "Correct AWS_SECRET_ACCESS_KEY."),
    "RequestTimeTooSkewed": ("the clocks here and there differ too much", "Set this machine's clock: timedatectl set-ntp true"),
    "RequestExpired": ("the clocks here and there differ too much", "Set this machine's clock: timedatectl set-ntp true"),
    "ExpiredToken": ("the credentials have expired", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY anew."),
}


def check_s3(settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Check:
    """Whether the endpoint lists its buckets to these credentials."""
    endpoint = settings.s3_endpoint
    if not endpoint:
        return skip("s3", "no endpoint is set: everything stays on this machine", "AWS_ENDPOINT_URL=http://HOST:9000 to use one")
    if not (settings.s3_access_key and settings.s3_secret_key):
        return fail("s3", f"{endpoint} is set without credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    try:
        answer = probe(endpoint, timeout_seconds=timeout_seconds)
    except UnreachableError as error:
        return fail("s3", str(error), "AWS_ENDPOINT_URL=http://HOST:9000")
    if answer.status == HTTPStatus.BAD_REQUEST and "HTTPS server" in answer.text:
        return fail("s3", f"{endpoint} speaks TLS", f"AWS_ENDPOINT_URL={endpoint.replace('http://', 'https://', 1)}")
    return _list_buckets(settings, timeout_seconds)


def _list_buckets(settings: Settings, timeout_seconds: float) -> Check:
    try:
        import urllib3
        from minio import Minio
        from minio.error import MinioException, S3Error
    except ImportError as error:
        return fail("s3", f"the S3 client cannot be imported ({error})", "pip install 'slipway[storage]'")
    parts = urlsplit(settings.s3_endpoint)
    client = Minio(
        endpoint=parts.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=parts.scheme == "https",
        region="us-east-1",  # otherwise it is asked for first
        http_client=urllib3.PoolManager(timeout=timeout_seconds, retries=False),
    )
    try:
        buckets = sorted(bucket.name for bucket in client.list_buckets())
    except S3Error as error:
        return _explain_refusal(settings.s3_endpoint, str(error.code), str(error.message))
    except (MinioException, urllib3.exceptions.HTTPError, ParseError, ValueError) as error:
        return fail(
            "s3",
            f"{settings.s3_endpoint} gives no S3 answer ({error})",
            "Check that AWS_ENDPOINT_URL is the S3 port, not the console's.",
        )
    shown = ", ".join(buckets[:5]) + (", ..." if len(buckets) > 5 else "")  # noqa: PLR2004
    return ok("s3", f"{settings.s3_endpoint}: {len(buckets)} bucket{'' if len(buckets) == 1 else 's'} {shown}".rstrip())


def _explain_refusal(endpoint: str, code: str, message: str) -> Check:
    if code == "AccessDenied":
        remedy = "Allow s3:ListAllMyBuckets, or pass over it: single buckets may still be open to these credentials."
        return warn("s3", f"{endpoint} does not list its buckets to these credentials (AccessDenied)", remedy)
    cause, remedy = _S3_REMEDIES.get(code, (f"{code}: {message}", "Check AWS_ENDPOINT_URL and the credentials."))
    return fail("s3", f"{endpoint}: {cause}", remedy)


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
