"""The model registry: versions with where they came from, and the aliases that say which one serves.

Aliases, never stages: `champion` is the version that serves, `challenger` the last one that was to replace it.
"""

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from slipway.errors import RegistryError
from slipway.export.bundle import Bundle, copy_bundle
from slipway.settings import Settings, configure_mlflow_client
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import is_remote
from slipway.tracking.client import is_empty, open_client, sqlite_path, translated_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
    from mlflow.tracking import MlflowClient

_PREFIX = "slipway."
_REASONS_TAG = "slipway.gate_reasons"
_PAGE_SIZE = 1000

Alias = Literal["champion", "challenger"]
CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a version came from and how it was judged; each field is a tag of the version."""

    bundle_id: str
    dataset_id: str
    code_version: str
    run_id: str
    """The pipeline run, as Slipway and KFP name it."""
    ir_hash: str
    """Of the compiled pipeline; "" outside one."""
    gate: Literal["passed", "refused"]
    gate_reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version as the registry holds it. Lineage is "" where a version was registered by other means."""

    name: str
    version: str
    aliases: tuple[str, ...]
    source: str
    """URI of the bundle."""
    created_at: str
    """ISO 8601, UTC."""
    tracking_run_id: str
    """MLflow's run."""
    bundle_id: str
    dataset_id: str
    code_version: str
    run_id: str
    ir_hash: str
    gate: str
    gate_reasons: tuple[str, ...]


class ModelRegistry:
    """The registry of the settings' MLflow. Every method raises RegistryError where it cannot be reached.

    Reading from a SQLite file that does not exist yet finds nothing, without importing MLflow.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> "MlflowClient":
        return open_client(self._settings)

    def register_version(
        self, name: str, lineage: Lineage, *, tracking_run_id: str, bundle_dir: Path | None = None, source_uri: str = ""
    ) -> ModelVersion:
        """Register a bundle, given as a folder (stored with the run's artifacts) or by its URI.

        A bundle is registered once: for one that is there already its tags are brought up to date.
        """
        client = self._client
        with translated_errors(self._settings, f"registering {name}"):
            found = next(iter(self._search(f"name = {_quote(name)} and tags.`{_PREFIX}bundle_id` = '{lineage.bundle_id}'")), None)
            if found is None:
                self._ensure_model(name)
                source = source_uri or self._store_bundle(bundle_dir, lineage.bundle_id, tracking_run_id)
                found = client.create_model_version(name, source=source, run_id=tracking_run_id, tags=_to_tags(lineage))
            else:
                for key, value in _to_tags(lineage).items():
                    client.set_model_version_tag(name, found.version, key, value)
            return self._read(client.get_model_version(name, found.version))

    def get_champion(self, name: str) -> ModelVersion | None:
        """The version whose alias is `champion`; None where no version has it."""
        return self.get_by_alias(name, CHAMPION)

    def get_by_alias(self, name: str, alias: Alias) -> ModelVersion | None:
        """The version with this alias; None where there is none, or no model of this name."""
        if is_empty(self._settings):
            return None
        client = self._client
        from mlflow.exceptions import MlflowException

        with translated_errors(self._settings, f"looking up {name}@{alias}"):
            try:
                return self._read(client.get_model_version_by_alias(name, alias))
            except MlflowException as error:
                missing_alias = error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error)
                if missing_alias or error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def get_version(self, name: str, version: str) -> ModelVersion:
        """One version.

        Raises:
            RegistryError: there is none of this name and number.
        """
        matching = [entry for entry in self.list_versions(name) if entry.version == version]
        if not matching:
            known = ", ".join(entry.version for entry in self.list_versions(name)) or "none"
            raise RegistryError(f"The registry holds no version {version!r} of {name!r}; its versions: {known}.")
        return matching[0]

    def list_versions(self, name: str | None = None) -> list[ModelVersion]:
        """All versions of one model, or of all models: by name, the newest first."""
        if is_empty(self._settings):
            return []
        client = self._client
        with translated_errors(self._settings, "listing the versions"):
            found = self._search(f"name = {_quote(name)}" if name is not None else "")
            aliases = {entry: client.get_registered_model(entry).aliases for entry in {version.name for version in found}}
        versions = [_to_version(version, _aliases_of(aliases[version.name], version.version)) for version in found]
        return sorted(versions, key=lambda version: (version.name, -int(version.version)))

    def find_bundle(self, name: str, bundle_id: str) -> ModelVersion | None:
        """The version that a bundle was registered as; None where it was not, or no longer is."""
        return next((version for version in self.list_versions(name) if version.bundle_id == bundle_id), None)

    def holds(self, name: str, version: str, bundle_id: str) -> bool:
        """Whether this version is there and is this bundle. A SQLite file is asked without importing MLflow."""
        if is_empty(self._settings):
            return False
        database = sqlite_path(self._settings)
        if database is None:
            found = self.find_bundle(name, bundle_id)
            return found is not None and found.version == version
        return _holds_tag(database, name, version, bundle_id)

    def set_alias(self, name: str, alias: Alias, version: str) -> None:
        """Let `alias` name this version and no other."""
        client = self._client
        with translated_errors(self._settings, f"moving {name}@{alias} to version {version}"):
            client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: Alias) -> None:
        """Let `alias` name no version."""
        client = self._client
        with translated_errors(self._settings, f"removing {name}@{alias}"):
            client.delete_registered_model_alias(name, alias)

    def set_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Note something about a version, as `slipway.<key>`."""
        client = self._client
        with translated_errors(self._settings, f"tagging {name} version {version}"):
            client.set_model_version_tag(name, version, _PREFIX + key, value)

    def download_bundle(self, version: ModelVersion, target: Path) -> Bundle:
        """Copy a version's bundle to `target`, which appears only when it is whole and checked.

        Raises:
            BundleError: what was fetched is no bundle, or was altered.
            StorageError: it lies in an object store that does not hand it out.
        """
        parts = urlsplit(version.source)
        if parts.scheme in ("", "file"):
            return copy_bundle(Path(unquote(parts.path)), target)
        with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
            return copy_bundle(self._fetch(version.source, Path(folder)), target)

    def _fetch(self, source: str, folder: Path) -> Path:
        if is_remote(source):
            ObjectStorage(self._settings).download_folder(source, folder / "bundle")
            return folder / "bundle"
        configure_mlflow_client()
        import mlflow.artifacts

        uri = self._settings.mlflow_tracking_uri
        with translated_errors(self._settings, f"fetching {source}"):
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri))

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _store_bundle(self, bundle_dir: Path | None, bundle_id: str, tracking_run_id: str) -> str:
        if bundle_dir is None:
            raise RegistryError("A version needs the folder or the URI of its bundle.")
        folder = f"bundle/{bundle_id}"
        self._client.log_artifacts(tracking_run_id, str(bundle_dir), folder)
        return f"{self._client.get_run(tracking_run_id).info.artifact_uri.rstrip('/')}/{folder}"

    def _search(self, condition: str) -> "list[MlflowModelVersion]":
        found: list[MlflowModelVersion] = []
        token: str | None = None
        while token is None or token:
            page = self._client.search_model_versions(condition, max_results=_PAGE_SIZE, page_token=token)
            found.extend(page)
            token = page.token or ""
        return found

    def _read(self, version: "MlflowModelVersion") -> ModelVersion:
        return _to_version(version, _aliases_of(self._client.get_registered_model(version.name).aliases, version.version))


def _holds_tag(database: Path, name: str, version: str, bundle_id: str) -> bool:
    query = "SELECT 1 FROM model_version_tags WHERE name = ? AND version = ? AND key = ? AND value = ?"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, (name, version, f"{_PREFIX}bundle_id", bundle_id)).fetchone() is not None
    except sqlite3.Error as error:
        raise RegistryError(
            f"MLflow's file {database} cannot be read ({error}). `slipway doctor` says how to mend it."
        ) from error


def _quote(name: str) -> str:
    return f'"{name}"' if "'" in name else f"'{name}'"


def _to_tags(lineage: Lineage) -> dict[str, str]:
    return {**{_PREFIX + key: value for key, value in asdict(lineage).items()}, _REASONS_TAG: json.dumps(lineage.gate_reasons)}


def _to_version(version: "MlflowModelVersion", aliases: tuple[str, ...]) -> ModelVersion:
    tags: dict[str, str] = version.tags
    names = {field.name for field in fields(Lineage)} - {"gate_reasons"}
    return ModelVersion(
        name=version.name,
        version=str(version.version),
        aliases=aliases,
        source=version.source or "",
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        tracking_run_id=version.run_id or "",
        **{name: tags.get(_PREFIX + name, "") for name in names},
        gate_reasons=tuple(json.loads(tags.get(_REASONS_TAG, "[]"))),
    )


def _aliases_of(aliases: Mapping[str, object], version: object) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, target in aliases.items() if str(target) == str(version)))
