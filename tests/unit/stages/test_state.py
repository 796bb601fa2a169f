"""Stage results and run records between pods, each with a home of its own: with the state on disk, and in an object store."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.settings import Settings, load_settings
from slipway.stages.cache import StageCache
from slipway.stages.finish import run_finish
from slipway.stages.record import read_run, summarize
from slipway.stages.runner import stage_session
from slipway.stages.state import SharedCache, fetch_run, find_run, share_file
from slipway.storage.files import write_json
from slipway.storage.objects import ObjectStorage


class Pods:
    """Pods of one cluster: a new home each, the same state."""

    def __init__(self, root: Path, state: str, **store: str) -> None:
        self.root = root
        self.state = state
        self.store = store
        self.count = 0
        self.storage = ObjectStorage(load_settings(store))

    def stored(self, end: str = "") -> list[str]:
        """The URIs of the files in the state whose names end so."""
        return [f"{self.state}/{file.name}" for file in self.storage.list_files(self.state) if file.name.endswith(end)]

    def environment(self, run_id: str = "run-1") -> dict[str, str]:
        self.count += 1
        home = self.root / f"pod-{self.count}"
        return {
            "SLIPWAY_HOME": str(home),
            "SLIPWAY_STATE_URI": self.state,
            "SLIPWAY_RUN_ID": run_id,
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            **self.store,
        }

    def settings(self, run_id: str = "run-1") -> Settings:
        return load_settings(self.environment(run_id))

    def cache(self) -> StageCache:
        settings = self.settings()
        return StageCache(
            cache_dir=settings.cache_dir, work_dir=settings.work_dir, shared=SharedCache(settings=replace(settings, run_id=""))
        )


@pytest.fixture(params=["disk", "minio"])
def pods(tmp_path: Path, request: pytest.FixtureRequest) -> Pods:
    if request.param == "disk":
        return Pods(tmp_path, str(tmp_path / "state"))
    server = request.getfixturevalue("minio").settings()
    return Pods(
        tmp_path,
        f"s3://{request.getfixturevalue('minio').make_bucket()}/state",
        AWS_ENDPOINT_URL=server.s3_endpoint,
        AWS_ACCESS_KEY_ID=server.s3_access_key,
        AWS_SECRET_ACCESS_KEY=server.s3_secret_key,
    )


def outputs_of(pods: Pods) -> dict[str, Path]:
    return {"model": pods.root / f"out-{pods.count}" / "model"}


def write_model(calls: list[str], content: str = "weights"):
    def work(place):
        calls.append(place.work_uri)
        place.outputs["model"].mkdir()
        (place.outputs["model"] / "weights").write_text(content)
        (place.outputs["model"] / "again").write_text(content)
        return {"content": content}

    return work


def test_a_second_pod_finds_what_the_first_has_worked_out(pods):
    calls: list[str] = []
    assert pods.cache().produce("train", {"x": 1}, outputs_of(pods), write_model(calls)) == ({"content": "weights"}, False)
    cache = pods.cache()
    outputs = outputs_of(pods)
    assert cache.produce("train", {"x": 1}, outputs, write_model(calls)) == ({"content": "weights"}, True)
    assert (outputs["model"] / "weights").read_text() == "weights"
    assert len(calls) == 1
    assert calls[0].startswith(f"{pods.state}/work/train/")


def test_an_entry_that_was_altered_in_the_store_is_worked_out_again_and_mended(pods):
    calls: list[str] = []
    for expected in (False, True):
        assert pods.cache().produce("train", {}, outputs_of(pods), write_model(calls))[1] is expected
    (stored,) = pods.stored("/outputs/model/weights")
    pods.storage.write_bytes(stored, b"WEIGHTS")
    for expected in (False, True):
        assert pods.cache().produce("train", {}, outputs_of(pods), write_model(calls))[1] is expected
    assert len(calls) == 2
    assert len(pods.stored("/outputs/model/weights")) == 1, "the altered attempt stays behind"


def test_an_entry_cut_off_before_its_end_is_none(pods):
    calls: list[str] = []
    pods.cache().produce("train", {}, outputs_of(pods), write_model(calls))
    (pointer,) = pods.stored("/entry.json")
    pods.storage.delete(pointer)
    assert pods.cache().produce("train", {}, outputs_of(pods), write_model(calls))[1] is False


def test_two_pods_that_work_on_one_key_at_once_leave_the_whole_result_of_one(pods):
    together = threading.Barrier(2, timeout=30)

    def work_with(content: str):
        def work(place):
            facts = write_model([], content)(place)
            together.wait()
            return facts

        return work

    caches = [(pods.cache(), outputs_of(pods), name) for name in ("first", "second")]
    threads = [
        threading.Thread(target=cache.produce, args=("train", {}, outputs, work_with(name))) for cache, outputs, name in caches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache, outputs = pods.cache(), outputs_of(pods)
    facts, cached = cache.produce("train", {}, outputs, write_model([], "third"))
    assert cached
    assert {path.read_text() for path in outputs["model"].iterdir()} == {facts["content"]}


def test_attempts_that_are_stored_at_the_same_time_do_not_mix(pods, tmp_path):
    shared = SharedCache(settings=pods.settings())
    attempts = {name: tmp_path / "attempts" / name for name in ("a", "b", "c")}
    for name, folder in attempts.items():
        folder.mkdir(parents=True)
        for number in range(12):
            (folder / f"{number}.txt").write_text(name)
    for turn in range(5):
        threads = [threading.Thread(target=shared.publish, args=("train", "key", folder)) for folder in attempts.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = tmp_path / f"found-{turn}"
        assert shared.fetch("train", "key", found)
        names = {path.read_text() for path in found.glob("*.txt")}
        assert len(names) == 1


def test_an_effect_that_is_lost_is_worked_out_again_whatever_the_store_holds(pods):
    calls: list[str] = []
    pods.cache().produce("evaluate", {}, outputs_of(pods), write_model(calls))
    pods.cache().produce("evaluate", {}, outputs_of(pods), write_model(calls), is_current=lambda _: False)
    assert len(calls) == 2


def test_unfinished_work_in_the_store_is_removed_once_the_work_is_done(pods):
    def work(place):
        pods.storage.write_bytes(f"{place.work_uri}/checkpoint.json", b"{}")
        return write_model([])(place)

    pods.cache().produce("train", {}, outputs_of(pods), work)
    assert pods.stored("/result.json")
    assert pods.stored("/checkpoint.json") == []


def run_stage(pods: Pods, monkeypatch: pytest.MonkeyPatch, name: str, error: str = "", run_id: str = "run-1") -> None:
    for key, value in pods.environment(run_id).items():
        monkeypatch.setenv(key, value)
    try:
        with stage_session(name) as session:
            session.facts = {"dataset_id": "d1"} if name == "preprocess" else {}
            if error:
                raise ValueError(error)
    except ValueError:
        assert error


def test_a_laptop_reads_what_the_stages_have_written_in_their_pods(pods, monkeypatch):
    run_stage(pods, monkeypatch, "ingest")
    run_stage(pods, monkeypatch, "preprocess")
    laptop = replace(pods.settings(), run_id="")
    going_on = summarize(find_run(laptop, ""))
    assert (going_on["status"], going_on["dataset_id"]) == ("RUNNING", "d1")
    assert [stage["name"] for stage in going_on["stages"]] == ["ingest", "preprocess"]


def test_the_exit_handler_in_its_own_pod_writes_how_the_run_ended(pods, monkeypatch):
    run_stage(pods, monkeypatch, "ingest")
    run_stage(pods, monkeypatch, "preprocess", error="no class has ten samples")
    for key, value in pods.environment().items():
        monkeypatch.setenv(key, value)
    run_finish({"data_source": "sklearn://digits"}, state="FAILED", error="task preprocess failed")
    summary = summarize(find_run(pods.settings(), "run-1"))
    assert (summary["status"], summary["error"]) == ("FAILED", "no class has ten samples")


def test_a_stage_whose_pod_was_killed_is_told_as_failed_once_the_run_has_ended(pods, monkeypatch):
    run_stage(pods, monkeypatch, "ingest")
    settings = pods.settings()
    fetch_run(settings)
    record = settings.run_dir / "stages" / "train.json"
    write_json(record, {"name": "train", "status": "RUNNING", "started_at": "", "seconds": 0.0, "cached": False})
    share_file(settings, record)
    for key, value in pods.environment().items():
        monkeypatch.setenv(key, value)
    run_finish({"data_source": "sklearn://digits"}, state="FAILED", error="task train failed")
    found = find_run(pods.settings(), "run-1")
    assert "ran out of memory" in read_run(found).error
    assert {stage["name"]: stage["status"] for stage in summarize(found)["stages"]} == {"ingest": "SUCCEEDED", "train": "FAILED"}


def test_the_run_that_began_last_is_the_one_that_is_reported(pods, monkeypatch):
    for run_id in ("b-run", "a-run"):
        run_stage(pods, monkeypatch, "ingest", run_id=run_id)
    run_stage(pods, monkeypatch, "preprocess", run_id="b-run")
    assert find_run(pods.settings(), "").name == "a-run"


def test_a_state_without_runs_says_so(pods):
    with pytest.raises(ConfigError, match="slipway submit"):
        find_run(pods.settings(), "")


def test_a_run_that_is_followed_on_this_machine_keeps_its_folder_to_itself(pods, tmp_path):
    followed = replace(pods.settings(), runner_pid=1)
    fetch_run(followed)
    note = followed.run_dir / "stages" / "ingest.json"
    write_json(note, {})
    share_file(followed, note)
    assert pods.stored() == []


def test_a_file_that_is_gone_here_goes_from_the_state(pods):
    settings = pods.settings()
    note = settings.run_dir / "mlflow" / "note.json"
    write_json(note, {})
    share_file(settings, note)
    other = pods.settings()
    fetch_run(other)
    there = other.run_dir / "mlflow" / "note.json"
    assert there.exists()
    there.unlink()
    share_file(other, there)
    assert pods.stored("/note.json") == []


def test_without_a_state_no_object_store_client_is_imported(tmp_path):
    script = (
        "import sys; from slipway.stages.runner import stage_session\n"
        "with stage_session('ingest'): pass\n"
        "sys.exit('obstore' in sys.modules or 'slipway.storage.objects' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"SLIPWAY_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
