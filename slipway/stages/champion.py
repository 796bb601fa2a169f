"""Which bundle a challenger is compared with."""

from dataclasses import dataclass
from pathlib import Path

from slipway.log import get_logger
from slipway.serving.record import ServingRecord
from slipway.settings import Settings

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ChampionReference:
    """A bundle by its id, and where it lies if that is known."""

    bundle_id: str
    """"" where there is no champion yet."""
    bundle_uri: str
    """"" where the registry must be asked, or where there is no champion."""


def find_champion(settings: Settings, serving: ServingRecord | None, model_name: str, challenger_id: str) -> ChampionReference:
    """The champion for a challenger: what serves, else the registry's alias.

    A challenger that already serves was let through against its predecessor, and that comparison is the one that counts: an
    unchanged run finds it in the cache.
    """
    if serving is None:
        return _find_registered(settings, model_name, challenger_id)
    if serving.bundle_id == challenger_id:
        return _find_predecessor(serving)
    return ChampionReference(bundle_id=serving.bundle_id, bundle_uri=serving.bundle_uri)


def fetch_champion(settings: Settings, model_name: str, reference: ChampionReference, target: Path) -> Path | None:
    """The champion's bundle on this machine; None where there is none, or no longer.

    Raises:
        RegistryError: the registry cannot be reached.
        BundleError: what is stored was altered.
        StorageError: it cannot be fetched.
    """
    if not reference.bundle_id:
        return None
    if reference.bundle_uri:
        from slipway.deploy.bundles import fetch_bundle

        return fetch_bundle(settings, reference.bundle_uri, target).root
    from slipway.tracking.registry import ModelRegistry

    registry = ModelRegistry(settings)
    held = [version for version in registry.list_versions(model_name) if version.bundle_id == reference.bundle_id]
    if not held:
        log.warning("the champion's bundle is gone: judged without a comparison", model=model_name, bundle=reference.bundle_id)
        return None
    return registry.download_bundle(held[0], target).root


def _find_predecessor(serving: ServingRecord) -> ChampionReference:
    previous = serving.previous
    if previous is not None and previous.bundle_id == serving.evaluated_against:
        return ChampionReference(bundle_id=previous.bundle_id, bundle_uri=previous.bundle_uri)
    return ChampionReference(bundle_id=serving.evaluated_against or "", bundle_uri="")


def _find_registered(settings: Settings, model_name: str, challenger_id: str) -> ChampionReference:
    from slipway.tracking.registry import ModelRegistry

    champion = ModelRegistry(settings).get_champion(model_name)
    same = champion is not None and champion.bundle_id == challenger_id
    return ChampionReference(bundle_id="" if champion is None or same else champion.bundle_id, bundle_uri="")
