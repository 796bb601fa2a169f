"""Stage outputs kept by the content that produced them, so that unchanged work is not done twice.

An entry is a folder `<stage>/<key>` that holds `outputs/<name>` and `result.json`, and appears whole or not at all. The key
is a hash of everything that decides the outputs, the library's own source included. One process at a time works on a key;
a second one waits and then finds the entry. On a cluster entries are shared between pods (`slipway.stages.state`).
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import StorageError
from slipway.log import get_logger
from slipway.stages.state import SharedCache
from slipway.storage.files import hash_file, hash_json, staged_directory, write_json
from slipway.storage.locks import hold_lock

_LINK_ABOVE_BYTES = 8 << 20

log = get_logger(__name__)

Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a stage works: its outputs by name, and a folder that outlives an interruption."""

    outputs: Mapping[str, Path]
    work_dir: Path
    work_uri: str = ""
    """The like of `work_dir` that outlives a pod; "" on a laptop. It is removed with it once the work is done."""


@dataclass(frozen=True, kw_only=True)
class StageCache:
    """The cache under one Slipway home, in front of the one that pods share."""

    cache_dir: Path
    work_dir: Path
    shared: SharedCache | None = None

    def produce(
        self,
        stage: str,
        key_parts: Mapping[str, object],
        outputs: Mapping[str, Path],
        work: Callable[[Workplace], Facts],
        *,
        is_current: Callable[[Facts], bool] = lambda _: True,
        wait_seconds: float = 3600.0,
    ) -> tuple[Facts, bool]:
        """Fill `outputs`, from the cache or by `work`.

        `is_current` is asked whether what an entry says still holds where a stage has effects beside its outputs; where it
        does not, the work is done again.

        Returns:
            What the stage says of its result, and whether it came from the cache.

        Raises:
            TimeoutError: another process held the key for longer than `wait_seconds`.
        """
        key = hash_json(key_parts)[:32]
        entry = self.cache_dir / stage / key
        with hold_lock(self.work_dir / stage / f"{key}.lock", timeout_seconds=wait_seconds):
            facts = self._find(stage, key, outputs, is_current)
            cached = facts is not None
            if facts is None:
                try:
                    facts = self._work_out(stage, key, outputs, work, key_parts)
                except StorageError:  # another pod may have ended the same work, and removed what both shared
                    facts = self._find(stage, key, outputs, is_current)
                    if facts is None:
                        raise
                    cached = True
            _hand_over(entry, outputs)
            return facts, cached

    def _find(self, stage: str, key: str, outputs: Mapping[str, Path], is_current: Callable[[Facts], bool]) -> Facts | None:
        """What an entry says that can be handed over; None where the work has to be done."""
        entry = self.cache_dir / stage / key
        if _is_whole(entry, outputs):
            facts = _read_facts(entry)
            if is_current(facts):
                return facts
        if self.shared is None or not self.shared.fetch(stage, key, entry) or not _is_whole(entry, outputs):
            return None
        facts = _read_facts(entry)
        return facts if is_current(facts) else None

    def _work_out(
        self,
        stage: str,
        key: str,
        outputs: Mapping[str, Path],
        work: Callable[[Workplace], Facts],
        key_parts: Mapping[str, object],
    ) -> Facts:
        entry, workspace = self.cache_dir / stage / key, self.work_dir / stage / key
        for abandoned in entry.parent.glob(f".{key}.*"):  # by a process that was killed
            shutil.rmtree(abandoned)
        workspace.mkdir(parents=True, exist_ok=True)
        work_uri = self.shared.work_uri(stage, key) if self.shared else ""
        with staged_directory(entry) as staging:
            (staging / "outputs").mkdir()
            staged = {name: staging / "outputs" / name for name in outputs}
            facts = work(Workplace(outputs=staged, work_dir=workspace, work_uri=work_uri))
            write_json(
                staging / "result.json", {"facts": facts, "files": _list_files(staging / "outputs"), "key": dict(key_parts)}
            )
        if self.shared is not None:
            self.shared.publish(stage, key, entry)
            self.shared.drop_work(stage, key)
        shutil.rmtree(workspace)
        return facts


def _read_facts(entry: Path) -> Facts:
    facts: Facts = json.loads((entry / "result.json").read_text())["facts"]
    return facts


def _list_files(root: Path) -> dict[str, dict[str, object]]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): _describe(path) for path in files}


def _describe(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    return {"size_bytes": size, "sha256": hash_file(path) if size <= _LINK_ABOVE_BYTES else ""}


def _is_whole(entry: Path, outputs: Mapping[str, Path]) -> bool:
    """Whether the entry can be handed over: large files are checked by size here and by hash where they are read."""
    if not (entry / "result.json").is_file():
        return False
    stated = json.loads((entry / "result.json").read_text())["files"]
    names_match = {name.partition("/")[0] for name in stated} == set(outputs)
    whole = names_match and _list_files(entry / "outputs") == stated
    if not whole:
        log.warning("cache entry damaged, working it out again", entry=str(entry))
    return whole


def _hand_over(entry: Path, outputs: Mapping[str, Path]) -> None:
    for name, target in outputs.items():
        source = entry / "outputs" / name
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link_or_copy)
        else:
            _link_or_copy(source, target)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    """Small files are copied, so that a change to an artifact leaves the cache alone; large ones share their bytes."""
    if Path(source).stat().st_size > _LINK_ABOVE_BYTES:
        try:
            Path(target).unlink(missing_ok=True)
            os.link(source, target)
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
    shutil.copyfile(source, target)
