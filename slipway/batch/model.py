"""Which model answers a batch: what serves now, a version of the registry, or a bundle by its URI."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from slipway.batch.plan import ModelReference
from slipway.errors import BatchError
from slipway.export.bundle import INFO_NAME, Bundle, read_bundle
from slipway.settings import Settings
from slipway.storage.uri import is_remote, join_uri


def pin_model(settings: Settings, model: str) -> ModelReference:
    """The one version that `model` means now.

    Args:
        settings: Where things are.
        model: NAME (what serves under it), NAME@ALIAS or NAME@VERSION (of the registry), a bundle's folder or `s3://` URI, or ""
            for the model that was deployed last on this machine.

    Raises:
        BatchError: there is none.
    """
    if is_remote(model) or (Path(model) / INFO_NAME).is_file():
        reference = model if is_remote(model) else str(Path(model).absolute())
    elif "@" in model:
        reference = _pin_registered(settings, *model.split("@", maxsplit=1))
    else:
        reference = _find_served(settings, model)
    with open_bundle(settings, reference) as bundle:
        return ModelReference(reference=reference, bundle_id=bundle.info.bundle_id)


@contextmanager
def open_bundle(settings: Settings, reference: str) -> Iterator[Bundle]:
    """The bundle of a pinned reference, checked; on this machine as long as the block lasts.

    Raises:
        BundleError: it is not there, or was altered.
    """
    from slipway.serving.process.source import local_bundle

    if "@" in reference and not is_remote(reference) and not Path(reference).exists():
        from slipway.tracking.registry import ModelRegistry

        registry = ModelRegistry(settings)
        name, version = reference.split("@", maxsplit=1)
        with TemporaryDirectory(prefix="slipway-bundle-") as folder:
            yield registry.download_bundle(registry.get_version(name, version), Path(folder) / "bundle")
        return
    with local_bundle(reference, settings) as path:
        yield read_bundle(path)


def _pin_registered(settings: Settings, name: str, wanted: str) -> str:
    from slipway.tracking.registry import CHALLENGER, CHAMPION, ModelRegistry

    registry = ModelRegistry(settings)
    if wanted not in (CHAMPION, CHALLENGER):
        return f"{name}@{registry.get_version(name, wanted).version}"
    found = registry.get_by_alias(name, CHAMPION if wanted == CHAMPION else CHALLENGER)
    if found is None:
        raise BatchError(f"{name} has no {wanted}. `slipway models {name}` lists its versions.")
    return f"{name}@{found.version}"


def _find_served(settings: Settings, name: str) -> str:
    from slipway.config import DeployConfig
    from slipway.deploy.targets import find_serving
    from slipway.serving.record import find_model_name

    name = name or find_model_name(settings)
    record = find_serving(settings, DeployConfig(), name)
    if record is None:
        raise BatchError(f"Nothing serves under {name!r}. Name a version (NAME@3, NAME@champion) or a bundle, or deploy one.")
    return join_uri(record.bundle_uri) if is_remote(record.bundle_uri) else record.bundle_uri
