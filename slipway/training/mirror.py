"""Checkpoints copied to the object store as they are written, so that a training outlives its machine. Imports no torch.

The mirror looks at the folder from outside: the trainer knows nothing of it, and what was written just before a process was
killed still arrives.
"""

import os
import shutil
import threading
from pathlib import Path
from types import TracebackType

from slipway.errors import ObjectMissingError, StorageError
from slipway.log import get_logger
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri
from slipway.training.job import BEST_NAME, HISTORY_NAME, LAST_NAME

_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 5.0
_FINISH_SECONDS = 60.0
_ORDER = (BEST_NAME, HISTORY_NAME, LAST_NAME)
"""As written, `last.pt` at the end: whoever finds it finds the best weights and the history that it speaks of."""

log = get_logger(__name__)

Stamp = tuple[int, int]


class CheckpointMirror:
    """Copies `best.pt`, `history.json` and `last.pt` of `work_dir` to `uri` while its block runs, and once more at its end.

    The copies are made in a thread. Where checkpoints come faster than they can be copied, those in between are left out.
    A store that does not answer is tried again at the next look: training goes on.
    """

    def __init__(self, storage: ObjectStorage, work_dir: Path, uri: str) -> None:
        self._storage = storage
        self._work_dir = work_dir
        self._uri = uri
        self._copied: dict[str, Stamp] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="checkpoint-mirror", daemon=True)

    def restore(self) -> bool:
        """Bring the copies back to `work_dir`, where it has no checkpoint of its own; whether there were any.

        Raises:
            StorageError: the store does not answer.
        """
        if (self._work_dir / LAST_NAME).exists():
            return False
        self._work_dir.mkdir(parents=True, exist_ok=True)
        for name in _ORDER:
            try:
                self._storage.download_file(join_uri(self._uri, name), self._work_dir / name)
            except ObjectMissingError:  # before the end of the first epoch there is no best one
                continue
            self._copied[name] = _stamp(self._work_dir / name)
        return LAST_NAME in self._copied

    def __enter__(self) -> "CheckpointMirror":
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(_FINISH_SECONDS)

    def _follow(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if not self._copy():
                self._ended.wait(_RETRY_SECONDS)
        self._copy()

    def _copy(self) -> bool:
        """Copy what has changed; whether the store took it."""
        last = self._work_dir / LAST_NAME
        if not last.exists() or _stamp(last) == self._copied.get(LAST_NAME):
            return True
        try:
            with _Snapshot(self._work_dir) as snapshot:
                for name, stamp in snapshot.stamps.items():
                    if stamp != self._copied.get(name):
                        self._storage.upload_file(snapshot.folder / name, join_uri(self._uri, name))
                        self._copied[name] = stamp
        except (StorageError, OSError) as error:  # a full disk, too, may have room again later
            log.warning("checkpoint not copied; trying again", uri=self._uri, error=str(error))
            return False
        return True


class _Snapshot:
    """The files as they are at one moment, whatever replaces them afterwards: links to them, gone with the block."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self.folder = work_dir / ".mirrored"
        self.stamps: dict[str, Stamp] = {}

    def __enter__(self) -> "_Snapshot":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in reversed(_ORDER):  # the last checkpoint first: the best one may be newer than it, never older
            if (self._work_dir / name).exists():
                os.link(self._work_dir / name, self.folder / name)
        self.stamps = {name: _stamp(self.folder / name) for name in _ORDER if (self.folder / name).exists()}
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
