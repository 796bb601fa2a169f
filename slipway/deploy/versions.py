"""Versions of the registry as a target may serve them, and their bundles on this machine."""

from dataclasses import replace
from pathlib import Path

from slipway.deploy.target import DeployTarget
from slipway.errors import BundleError, DeployError
from slipway.export.bundle import Bundle
from slipway.serving.record import ServedVersion, ServingRecord
from slipway.storage.uri import is_remote
from slipway.tracking.registry import ModelRegistry


def find_servable(registry: ModelRegistry, model_name: str, version: str) -> ServedVersion:
    """A version that the gate let through, as a target may serve it; its `bundle_uri` is where the registry has it.

    Raises:
        DeployError: the gate refused it.
        RegistryError: there is none of this number.
    """
    found = registry.get_version(model_name, version)
    if found.gate != "passed":
        raise DeployError(f"Version {version} was not let through by the gate, so it may not serve.")
    return ServedVersion(
        version=found.version,
        bundle_id=found.bundle_id,
        bundle_uri=f"{found.source.rstrip('/')}/" if is_remote(found.source) else found.source,
        run_id=found.run_id,
        dataset_id=found.dataset_id,
        code_version=found.code_version,
        ir_hash=found.ir_hash,
        evaluated_against=None,
    )


def find_way_back(registry: ModelRegistry, serving: ServingRecord, version: str) -> ServedVersion:
    """The version that a rollback from `serving` goes to: `version`, or with "" the one that served before.

    What served before is looked for by its bundle: the registry may know it by another number by now.

    Raises:
        DeployError: nothing served before, the registry has lost it, or the gate refused `version`.
        RegistryError: it has no version of this number.
    """
    previous = serving.previous
    if previous is None and not version:
        raise DeployError("There is no previous version to go back to; name one of `slipway models` with --to.")
    if previous is None or version not in ("", previous.version):
        return find_servable(registry, serving.model_name, version)
    found = registry.find_bundle(serving.model_name, previous.bundle_id)
    if found is None:
        raise DeployError(
            f"Version {previous.version} (bundle {previous.bundle_id}) served before, but the registry no longer holds it. "
            "Name one of `slipway models` with --to."
        )
    return replace(previous, version=found.version)


def is_registered(registry: ModelRegistry, serving: ServingRecord) -> bool:
    """Whether the registry still knows what serves; its file may have been removed, or another registry be in use."""
    return registry.holds(serving.model_name, serving.version, serving.bundle_id)


def obtain_bundle(
    target: DeployTarget, registry: ModelRegistry, model_name: str, served: ServedVersion, folder: Path
) -> tuple[ServedVersion, Bundle]:
    """A version's bundle on this machine, below `folder` if need be, and the version as the target has it stored.

    It comes from the target, or from the registry where the target has lost it or never had it.
    """
    try:
        return served, target.read_bundle(served, folder / "stored")
    except BundleError:
        bundle = registry.download_bundle(registry.get_version(model_name, served.version), folder / "registered")
        return replace(served, bundle_uri=target.store_bundle(model_name, served.version, bundle.root)), bundle
