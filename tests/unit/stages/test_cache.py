import threading
import time

import pytest

from slipway.errors import StorageError
from slipway.settings import load_settings
from slipway.stages.cache import StageCache
from slipway.stages.state import SharedCache
from slipway.storage.files import hash_json


@pytest.fixture
def cache(tmp_path):
    return StageCache(cache_dir=tmp_path / "cache", work_dir=tmp_path / "work")


def write_model(calls):
    def work(place):
        calls.append(place.work_dir)
        place.outputs["model"].mkdir()
        (place.outputs["model"] / "weights").write_bytes(b"w" * 10)
        place.outputs["note"].write_text("done")
        return {"score": 1}

    return work


def test_the_same_key_is_worked_out_once_and_handed_over_again(cache, tmp_path):
    calls = []
    first = {"model": tmp_path / "a" / "model", "note": tmp_path / "a" / "note"}
    second = {"model": tmp_path / "b" / "model", "note": tmp_path / "b" / "note"}
    assert cache.produce("train", {"x": 1}, first, write_model(calls)) == ({"score": 1}, False)
    assert cache.produce("train", {"x": 1}, second, write_model(calls)) == ({"score": 1}, True)
    assert cache.produce("train", {"x": 2}, first, write_model(calls)) == ({"score": 1}, False)
    assert len(calls) == 2
    assert (second["model"] / "weights").read_bytes() == b"w" * 10
    assert second["note"].read_text() == "done"


def test_a_damaged_entry_is_worked_out_again(cache, tmp_path):
    calls = []
    outputs = {"model": tmp_path / "model", "note": tmp_path / "note"}
    cache.produce("train", {}, outputs, write_model(calls))
    next((tmp_path / "cache").glob("train/*/outputs/model/weights")).write_bytes(b"x" * 10)
    assert cache.produce("train", {}, outputs, write_model(calls)) == ({"score": 1}, False)
    assert (outputs["model"] / "weights").read_bytes() == b"w" * 10


def test_changing_a_handed_over_file_leaves_the_entry_alone(cache, tmp_path):
    calls = []
    outputs = {"model": tmp_path / "model", "note": tmp_path / "note"}
    cache.produce("train", {}, outputs, write_model(calls))
    (outputs["model"] / "weights").write_bytes(b"tampered")
    assert cache.produce("train", {}, outputs, write_model(calls))[1] is True
    assert (outputs["model"] / "weights").read_bytes() == b"w" * 10


def test_failed_work_leaves_no_entry_and_finds_its_work_folder_again(cache, tmp_path):
    outputs = {"note": tmp_path / "note"}

    def fail(place):
        (place.work_dir / "checkpoint").write_text("epoch 3")
        place.outputs["note"].write_text("half")
        raise ValueError("no")

    def resume(place):
        place.outputs["note"].write_text((place.work_dir / "checkpoint").read_text())
        return {}

    with pytest.raises(ValueError, match="no"):
        cache.produce("train", {}, outputs, fail)
    assert not outputs["note"].exists()
    assert not list((tmp_path / "cache" / "train").iterdir())
    assert cache.produce("train", {}, outputs, resume) == ({}, False)
    assert outputs["note"].read_text() == "epoch 3"


def test_two_that_want_the_same_work_do_it_once(cache, tmp_path):
    calls = []

    def slow(place):
        time.sleep(0.3)
        return write_model(calls)(place)

    def want(name):
        cache.produce("train", {}, {"model": tmp_path / name / "model", "note": tmp_path / name / "note"}, slow)

    threads = [threading.Thread(target=want, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (tmp_path / "a" / "note").exists()
    assert (tmp_path / "b" / "note").exists()


def test_an_entry_whose_effects_are_gone_is_worked_out_again(cache, tmp_path):
    calls = []
    outputs = {"model": tmp_path / "model", "note": tmp_path / "note"}
    cache.produce("train", {}, outputs, write_model(calls))
    _, cached = cache.produce("train", {}, outputs, write_model(calls), is_current=lambda facts: facts["score"] > 1)
    assert (cached, len(calls)) == (False, 2)


def test_what_a_killed_process_staged_is_removed_by_the_next_one(cache, tmp_path):
    key = hash_json({})[:32]
    abandoned = cache.cache_dir / "train" / f".{key}.half"
    abandoned.mkdir(parents=True)
    cache.produce("train", {}, {"model": tmp_path / "model", "note": tmp_path / "note"}, write_model([]))
    assert [entry.name for entry in (cache.cache_dir / "train").iterdir()] == [key]


@pytest.fixture
def pods(tmp_path):
    """The caches of two pods, with a store in common."""
    shared = SharedCache(settings=load_settings({"SLIPWAY_STATE_URI": str(tmp_path / "state")}))
    return [
        StageCache(cache_dir=tmp_path / name / "cache", work_dir=tmp_path / name / "work", shared=shared)
        for name in ("one", "other")
    ]


def test_work_that_fails_because_another_pod_has_ended_it_takes_that_ones_result(pods, tmp_path):
    """Whoever ends first removes the work that both share, under the feet of the other."""
    one, other = pods
    calls = []

    def come_second(place):
        outputs = {"model": tmp_path / "b" / "model", "note": tmp_path / "b" / "note"}
        assert other.produce("train", {}, outputs, write_model(calls)) == ({"score": 1}, False)
        raise StorageError("There is no checkpoint.")

    outputs = {"model": tmp_path / "a" / "model", "note": tmp_path / "a" / "note"}
    assert one.produce("train", {}, outputs, come_second) == ({"score": 1}, True)
    assert (outputs["model"] / "weights").read_bytes() == b"w" * 10
    assert len(calls) == 1


def test_work_that_fails_on_the_store_with_no_result_of_another_pod_fails(pods, tmp_path):
    def fail(place):
        raise StorageError("The bucket is gone.")

    with pytest.raises(StorageError, match="The bucket is gone"):
        pods[0].produce("train", {}, {"note": tmp_path / "note"}, fail)


def test_a_result_of_another_pod_that_does_not_hold_any_more_is_not_taken_for_failed_work(pods, tmp_path):
    one, other = pods

    def come_second(place):
        other.produce("train", {}, {"model": tmp_path / "b" / "model", "note": tmp_path / "b" / "note"}, write_model([]))
        raise StorageError("There is no checkpoint.")

    outputs = {"model": tmp_path / "a" / "model", "note": tmp_path / "a" / "note"}
    with pytest.raises(StorageError, match="no checkpoint"):
        one.produce("train", {}, outputs, come_second, is_current=lambda facts: False)
