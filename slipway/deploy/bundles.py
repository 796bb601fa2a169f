"""Bundles in the object store: one folder a bundle, named by its id, written once and never changed."""

import tempfile
from pathlib import Path

from slipway.config import check_model_name
from slipway.errors import BundleError
from slipway.export.bundle import INFO_NAME, Bundle, copy_bundle, read_bundle
from slipway.settings import Settings
from slipway.storage.uri import is_remote, join_uri


def publish_bundle(settings: Settings, model_name: str, bundle_dir: Path) -> str:
    """Store a bundle where an InferenceService and the registry find it, unless it is there; `bundle.json` goes last.

    Returns:
        Its URI with a slash at the end (without, KServe also loads the folders whose names begin alike); "" where the settings
        name no store, and the registry keeps the bundle itself.

    Raises:
        BundleError: it was altered.
        StorageError: the store cannot be written.
    """
    if not settings.models_uri:
        return ""
    from slipway.storage.objects import ObjectStorage

    check_model_name(model_name)
    storage = ObjectStorage(settings)
    with tempfile.TemporaryDirectory(prefix="slipway-bundle-") as folder:
        bundle = copy_bundle(bundle_dir, Path(folder) / "bundle")
        uri = join_uri(settings.models_uri, model_name, bundle.info.bundle_id)
        stored = {file.name: file.size_bytes for file in storage.list_files(uri)}
        if any(stored.get(path.name) != path.stat().st_size for path in bundle.root.iterdir()):
            storage.upload_folder(bundle.root, uri, last=(INFO_NAME,))
    return f"{uri}/"


def fetch_bundle(settings: Settings, uri: str, folder: Path) -> Bundle:
    """A stored bundle, checked; what lies in an object store is copied to `folder`, which must not exist.

    Raises:
        BundleError: it was altered, or is not there.
        StorageError: the store cannot be read.
    """
    if not is_remote(uri):
        return read_bundle(Path(uri))
    from slipway.storage.objects import ObjectStorage

    storage = ObjectStorage(settings)
    if not storage.exists(join_uri(uri, INFO_NAME)):
        raise BundleError(f"{uri} holds no bundle.")
    storage.download_folder(uri, folder)
    return read_bundle(folder)
