"""Which version of a model serves: what every deploy target says of it, and the local one's pointer file.

Deployment switches the pointer and the predictor follows it.

Reading it costs the standard library alone, so that a stage with nothing to do can look at it.
"""

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.config import check_model_name
from slipway.errors import DeployError
from slipway.settings import Settings
from slipway.storage.files import write_json

POINTER_NAME = "current.json"


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """A model version with the bundle that it answers from."""

    version: str
    """Of the model registry."""
    bundle_id: str
    bundle_uri: str
    """`s3://.../` for KServe; else an absolute folder, relative to the pointer file inside it so that the home can be moved."""
    run_id: str
    """The pipeline run that promoted it first."""
    dataset_id: str
    code_version: str
    """Of the library that trained it."""
    ir_hash: str
    """Of the compiled pipeline; "" outside one."""
    evaluated_against: str | None
    """Id of the bundle that the gate compared it with; None where nothing served then."""


@dataclass(frozen=True, kw_only=True)
class ServingRecord(ServedVersion):
    """What serves under a model's name, and what served before."""

    model_name: str
    promoted_at: str
    """ISO 8601, UTC."""
    confirmed: bool
    """Whether the registry's alias has followed; False in the moment between the two."""
    previous: ServedVersion | None
    """Where a rollback goes."""


def succeed(current: ServingRecord | None, served: ServedVersion, *, model_name: str) -> ServingRecord:
    """The record of `served` taking the place of `current`, from now on and unconfirmed."""
    previous = None if current is None else ServedVersion(**_values(current))
    if current is not None and current.bundle_id == served.bundle_id:  # registered anew: no way back to itself
        previous = current.previous
    return ServingRecord(
        **_values(served),
        model_name=model_name,
        promoted_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        confirmed=False,
        previous=previous,
    )


def serving_folder(settings: Settings, model_name: str) -> Path:
    """The folder with all that the local target keeps of a model (it need not exist).

    Raises:
        ConfigError: the name cannot be one of a folder and of an endpoint.
    """
    check_model_name(model_name)
    return settings.serving_dir / model_name


def pointer_path(settings: Settings, model_name: str) -> Path:
    """The file that says what serves."""
    return serving_folder(settings, model_name) / POINTER_NAME


def read_serving(settings: Settings, model_name: str) -> ServingRecord | None:
    """What serves under this name; None where nothing has been deployed yet."""
    path = pointer_path(settings, model_name)
    return read_pointer(path) if path.exists() else None


def find_model_name(settings: Settings) -> str:
    """The model that was promoted last on this machine.

    Raises:
        DeployError: nothing has been deployed.
    """
    records = [read_pointer(path) for path in settings.serving_dir.glob(f"*/{POINTER_NAME}")]
    if not records:
        raise DeployError(f"no model serves from {settings.serving_dir} yet. Deploy one with `slipway run`.")
    return max(records, key=lambda record: record.promoted_at).model_name


def read_pointer(path: Path) -> ServingRecord:
    """Parse a pointer file.

    Raises:
        DeployError: it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text())
        previous = content.pop("previous")
        return ServingRecord(
            **_resolve(content, path.parent),
            previous=None if previous is None else ServedVersion(**_resolve(previous, path.parent)),
        )
    except FileNotFoundError:
        raise DeployError(f"{path} is missing: nothing has been deployed there yet. Run `slipway run`.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DeployError(f"{path} is damaged ({error!r}). Remove it and deploy again.") from None


def write_pointer(path: Path, record: ServingRecord) -> None:
    """Replace the pointer file: the promotion itself, one atomic rename."""
    content = _relate(record, path.parent)
    content["previous"] = None if record.previous is None else _relate(record.previous, path.parent)
    write_json(path, content)


def _values(served: ServedVersion) -> dict[str, Any]:
    return {field.name: getattr(served, field.name) for field in fields(ServedVersion)}


def _resolve(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**content, "bundle_uri": str((folder / content["bundle_uri"]).absolute())}


def _relate(served: ServedVersion, folder: Path) -> dict[str, Any]:
    content = {field.name: getattr(served, field.name) for field in fields(served)}
    bundle_dir = Path(served.bundle_uri)
    return {**content, "bundle_uri": str(bundle_dir.relative_to(folder) if bundle_dir.is_relative_to(folder) else bundle_dir)}
