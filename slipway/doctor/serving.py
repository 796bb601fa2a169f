"""What serves in a cluster, and whether the registry agrees."""

import sqlite3
from contextlib import closing
from http import HTTPStatus
from urllib.parse import urlencode

from slipway.cluster.client import Cluster
from slipway.deploy.kserve import KServeTarget
from slipway.doctor.check import Check, fail, ok, skip, warn
from slipway.doctor.probe import UnreachableError, probe
from slipway.errors import SlipwayError
from slipway.serving.record import ServingRecord
from slipway.settings import Settings
from slipway.tracking.client import sqlite_path

_TIMEOUT_SECONDS = 2.5
_UNKNOWN = "?"


def check_serving(settings: Settings, cluster: Cluster) -> list[Check]:
    """One check for each model that serves."""
    target = KServeTarget(settings, cluster)
    records = target.list_serving()
    if not records:
        return [skip("serving", f"no model serves in {settings.serving_namespace} yet", "slipway submit")]
    return [_check_model(settings, target, record) for record in records]


def _check_model(settings: Settings, target: KServeTarget, record: ServingRecord) -> Check:
    name = record.model_name
    detail = f"{name} version {record.version}, since {record.promoted_at}"
    try:
        trouble = target.describe_trouble(record)
    except SlipwayError as error:
        trouble = str(error)
    if trouble:
        return fail("serving", f"{detail}: {trouble}", f"slipway rollback --target kserve --model {name}")
    alias = _find_champion(settings, name)
    if alias == _UNKNOWN:
        return warn("serving", f"{detail}; the registry was not reached", "Set MLFLOW_TRACKING_URI to the platform's MLflow.")
    if alias != record.version:
        stands = f"the alias champion names {'version ' + alias if alias else 'none'}"
        remedy = "The next deployment or rollback sets it right; what serves is the truth."
        return warn("serving", f"{detail}; {stands}", remedy)
    return ok("serving", f"{detail}; the registry agrees")


def _find_champion(settings: Settings, model_name: str) -> str:
    """The version whose alias is `champion`, "" for none, without importing MLflow."""
    database = sqlite_path(settings)
    if database is not None:
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
        try:
            with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
                row = connection.execute(query, (model_name,)).fetchone()
        except sqlite3.Error:
            return _UNKNOWN
        return str(row[0]) if row else ""
    if not settings.mlflow_tracking_uri.startswith(("http://", "https://")):
        return _UNKNOWN
    asked = urlencode({"name": model_name, "alias": "champion"})
    url = f"{settings.mlflow_tracking_uri.rstrip('/')}/api/2.0/mlflow/registered-models/alias?{asked}"
    try:
        answer = probe(url, timeout_seconds=_TIMEOUT_SECONDS)
    except UnreachableError:
        return _UNKNOWN
    if answer.status == HTTPStatus.OK:
        return str(answer.to_json()["model_version"]["version"])
    return "" if answer.to_json().get("error_code") in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST") else _UNKNOWN
