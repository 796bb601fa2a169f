"""Where a bundle comes from: a folder of this machine, or one in an object store."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.errors import BundleError, ObjectMissingError
from slipway.export.bundle import INFO_NAME
from slipway.settings import Settings
from slipway.storage.uri import is_remote, join_uri, local_path


@contextmanager
def local_bundle(uri: str, settings: Settings) -> Iterator[Path]:
    """The folder of a bundle; one from an object store is copied to a temporary folder, which lasts as long as the block.

    Its files are not checked here: `read_bundle` compares each with the hash that the bundle states.

    Raises:
        BundleError: there is no bundle, or one that was not finished: its description is written last.
        StorageError: the object store cannot be reached, or refuses.
    """
    if not is_remote(uri):
        yield local_path(uri)
        return
    with temporary_folder() as folder:
        yield download_bundle(uri, settings, folder)


def download_bundle(uri: str, settings: Settings, folder: Path) -> Path:
    """Copy a bundle from an object store to a folder within `folder`; raises what `local_bundle` does."""
    from slipway.storage.objects import ObjectStorage

    storage = ObjectStorage(settings)
    try:
        storage.read_bytes(join_uri(uri, INFO_NAME))
    except ObjectMissingError:
        raise BundleError(f"{uri} holds no {INFO_NAME}: it is not a bundle, or was not uploaded to its end.") from None
    storage.download_folder(uri, folder / "bundle")
    return folder / "bundle"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a copy, which lasts as long as the block.

    Raises:
        BundleError: there is no place that can be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="slipway-bundle-", ignore_cleanup_errors=True)
    except OSError as error:
        raise BundleError(
            f"There is no folder to copy the bundle to ({error.strerror}); accepted: a /tmp that can be written, or another one "
            "that TMPDIR names."
        ) from None
    with folder as name:
        yield Path(name)
