"""What all pods of a cluster share below SLIPWAY_STATE_URI: stage results, and what is known of each run.

    cache/<stage>/<key>/entry.json           which attempt is the result
    cache/<stage>/<key>/<attempt>/...        a published folder: the entry as `StageCache` keeps it
    work/<stage>/<key>/...                   unfinished work, kept by the stage itself
    runs/<run_id>/...                        run.json, stages/, mlflow/ and the reports, as in a laptop's home
    runs/latest.json                         the run that began last

Without `state_uri` nothing here does anything, and obstore is not imported. Every function raises StorageError where the state
cannot be reached.
"""

import json
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import ConfigError, ObjectMissingError, StorageError
from slipway.log import get_logger
from slipway.settings import Settings
from slipway.stages.record import latest_run, liveness_lock
from slipway.storage.uri import join_uri

if TYPE_CHECKING:
    from slipway.storage.objects import ObjectStorage

_POINTER = "entry.json"
_LATEST = "latest.json"

log = get_logger(__name__)


@lru_cache(maxsize=1)
def open_storage(settings: Settings) -> "ObjectStorage":
    """This process's way to the state."""
    from slipway.storage.objects import ObjectStorage

    return ObjectStorage(settings)


@dataclass(frozen=True, kw_only=True)
class SharedCache:
    """Stage results that every pod finds.

    Each attempt lies in a folder of its own and a pointer names the one that counts, so two pods that work on one key at once
    leave a whole result, whichever ends last.
    """

    settings: Settings

    def fetch(self, stage: str, key: str, entry: Path) -> bool:
        """Bring the result for `key` to the folder `entry`; False where there is none, or not a whole one."""
        storage, folder = open_storage(self.settings), self._folder(stage, key)
        attempt = self._read_pointer(folder)
        if not attempt:
            return False
        try:
            storage.fetch_folder(join_uri(folder, attempt), entry)
        except StorageError as error:
            storage.exists(join_uri(folder, _POINTER))  # a store that does not answer is no damaged entry
            log.warning("shared cache entry damaged, working it out again", entry=join_uri(folder, attempt), error=str(error))
            return False
        return True

    def publish(self, stage: str, key: str, entry: Path) -> None:
        """Make the folder `entry` the result for `key`, in place of what was there."""
        storage, folder = open_storage(self.settings), self._folder(stage, key)
        replaced, attempt = self._read_pointer(folder), uuid.uuid4().hex
        storage.publish_folder(entry, join_uri(folder, attempt))
        storage.write_bytes(join_uri(folder, _POINTER), json.dumps({"attempt": attempt}).encode())
        if replaced:
            storage.delete_folder(join_uri(folder, replaced))

    def work_uri(self, stage: str, key: str) -> str:
        """Where a stage keeps the unfinished work for `key`."""
        return join_uri(self.settings.state_uri, "work", stage, key)

    def drop_work(self, stage: str, key: str) -> None:
        """Remove the unfinished work for `key`."""
        open_storage(self.settings).delete_folder(self.work_uri(stage, key))

    def _folder(self, stage: str, key: str) -> str:
        return join_uri(self.settings.state_uri, "cache", stage, key)

    def _read_pointer(self, folder: str) -> str:
        try:
            return str(json.loads(open_storage(self.settings).read_bytes(join_uri(folder, _POINTER)))["attempt"])
        except ObjectMissingError:
            return ""


def fetch_run(settings: Settings) -> None:
    """Bring what other pods have written of this run to the run's folder; a run that begins here becomes the latest."""
    if not _is_shared(settings):
        return
    storage, uri = open_storage(settings), _run_uri(settings, settings.run_dir.name)
    if storage.list_files(uri):
        storage.download_folder(uri, settings.run_dir)
    elif settings.run_id:
        content = json.dumps({"run_id": settings.run_id}).encode()
        storage.write_bytes(join_uri(settings.state_uri, "runs", _LATEST), content)


def share_file(settings: Settings, path: Path) -> None:
    """Let other pods see a file of the run's folder as it is now; one that is gone here goes there too."""
    if not _is_shared(settings):
        return
    storage = open_storage(settings)
    uri = join_uri(_run_uri(settings, settings.run_dir.name), path.relative_to(settings.run_dir).as_posix())
    if path.exists():
        storage.upload_file(path, uri)
    else:
        storage.delete(uri)


def find_run(settings: Settings, run_id: str) -> Path:
    """The folder of a run ("" for the last one) on this machine, brought here where pods have written it.

    Raises:
        ConfigError: there is no such run.
    """
    if not settings.state_uri:
        return settings.runs_dir / (run_id or latest_run(settings.runs_dir))
    run_dir = settings.runs_dir / (run_id or _latest_shared(settings))
    uri = _run_uri(settings, run_dir.name)
    if not liveness_lock(run_dir).exists() and open_storage(settings).list_files(uri):
        open_storage(settings).download_folder(uri, run_dir)
    return run_dir


def _latest_shared(settings: Settings) -> str:
    try:
        return str(json.loads(open_storage(settings).read_bytes(join_uri(settings.state_uri, "runs", _LATEST)))["run_id"])
    except ObjectMissingError:
        raise ConfigError(f"there is no run under {settings.state_uri} yet. Start one with `slipway submit`.") from None


def _is_shared(settings: Settings) -> bool:
    """Whether the run's folder is for others to see: not where a process of this machine follows the run in it."""
    return bool(settings.state_uri) and not settings.runner_pid


def _run_uri(settings: Settings, run_id: str) -> str:
    return join_uri(settings.state_uri, "runs", run_id)
