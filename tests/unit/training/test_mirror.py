"""Checkpoints that outlive their machine. The store is a folder here; against S3 servers the same calls are storage's tests."""

import time
from pathlib import Path

import pytest

from slipway.errors import StorageError
from slipway.settings import load_settings
from slipway.storage.files import write_bytes
from slipway.storage.objects import ObjectStorage
from slipway.training import mirror as mirror_module
from slipway.training.mirror import CheckpointMirror


@pytest.fixture
def storage() -> ObjectStorage:
    return ObjectStorage(load_settings({}))


def write_epoch(work: Path, number: int, *, best: bool = True) -> None:
    """As the trainer does at the end of an epoch."""
    write_bytes(work / "history.json", f"history {number}".encode())
    if best:
        write_bytes(work / "best.pt", f"best {number}".encode())
    write_bytes(work / "last.pt", f"last {number}".encode())


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_written_last_is_there_when_the_block_ends_and_comes_back_on_another_machine(tmp_path, storage):
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    with CheckpointMirror(storage, work, str(kept)) as mirror:
        assert not mirror.restore()
        for number in range(1, 20):
            write_epoch(work, number, best=number < 10)
    assert read(kept) == {"best.pt": "best 9", "history.json": "history 19", "last.pt": "last 19"}
    elsewhere = tmp_path / "elsewhere"
    assert CheckpointMirror(storage, elsewhere, str(kept)).restore()
    assert read(elsewhere) == read(kept)


def test_copies_are_made_while_training_goes_on(tmp_path, storage):
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    with CheckpointMirror(storage, work, str(kept)):
        write_epoch(work, 1)
        wait_for((kept / "last.pt").exists)
        assert read(kept)["best.pt"] == "best 1"


def test_a_checkpoint_inside_the_first_epoch_has_no_best_one_beside_it_and_comes_back(tmp_path, storage):
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    with CheckpointMirror(storage, work, str(kept)):
        write_bytes(work / "last.pt", b"last 0")
    assert read(kept) == {"last.pt": "last 0"}
    elsewhere = tmp_path / "elsewhere"
    assert CheckpointMirror(storage, elsewhere, str(kept)).restore()
    assert read(elsewhere) == {"last.pt": "last 0"}


def test_a_checkpoint_of_this_machine_is_not_overwritten_by_an_older_copy(tmp_path, storage):
    work, kept = tmp_path / "work", tmp_path / "kept"
    for folder, number in ((work, 5), (kept, 3)):
        folder.mkdir()
        write_epoch(folder, number)
    assert not CheckpointMirror(storage, work, str(kept)).restore()
    assert read(work)["last.pt"] == "last 5"


class Interrupted(ObjectStorage):
    """Every upload of a file of this name fails; the others' order is noted."""

    def __init__(self, failing: str) -> None:
        super().__init__(load_settings({}))
        self.failing = failing
        self.uploaded: list[str] = []

    def upload_file(self, path: Path, uri: str) -> None:
        if path.name == self.failing:
            raise StorageError("the store is away")
        super().upload_file(path, uri)
        self.uploaded.append(path.name)


def test_whatever_is_interrupted_the_last_checkpoint_never_arrives_without_what_it_speaks_of(tmp_path):
    for failing in ("best.pt", "history.json"):
        work, kept = tmp_path / failing / "work", tmp_path / failing / "kept"
        work.mkdir(parents=True)
        with CheckpointMirror(Interrupted(failing), work, str(kept)):
            write_epoch(work, 1)
        assert not (kept / "last.pt").exists()


def test_a_store_that_was_away_gets_what_it_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "_RETRY_SECONDS", 0.1)
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    storage = Interrupted("last.pt")
    with CheckpointMirror(storage, work, str(kept)):
        write_epoch(work, 1)
        wait_for(lambda: storage.uploaded == ["best.pt", "history.json"])
        storage.failing = ""
        wait_for(lambda: "last.pt" in storage.uploaded)
    assert storage.uploaded == ["best.pt", "history.json", "last.pt"]
