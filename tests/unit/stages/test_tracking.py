from dataclasses import asdict, replace

import pytest

from slipway.config import Config
from slipway.stages.record import RunRecord, liveness_lock, write_run
from slipway.stages.state import fetch_run
from slipway.stages.tracking import TRACKING_NAME, TrainingFacts, close_runs, join_candidate, track_training
from slipway.storage.files import write_json
from slipway.storage.locks import hold_lock
from slipway.tracking.client import open_client
from slipway.training.job import HISTORY_NAME


@pytest.fixture
def begin(tracked_settings):
    """Begins a pipeline run with a training, and gives the settings that its stages see and the training's MLflow run."""

    def begin_run(run_id: str, training_key: str = "key"):
        settings = replace(tracked_settings, run_id=run_id)
        record = RunRecord(run_id=run_id, pipeline="training", status="RUNNING", started_at="", parameters={})
        write_run(settings.runs_dir / run_id, record)
        return settings, join_candidate(settings, Config(), training_key)

    return begin_run


@pytest.fixture
def status_of(tracked_settings):
    client = open_client(tracked_settings)
    return lambda run: client.get_run(run.run_id).info.status


def test_the_next_run_closes_what_a_killed_one_left_open_and_nothing_of_one_that_lives(begin, status_of):
    _, killed = begin("run-1", "a")
    living_settings, living = begin("run-2", "b")
    with hold_lock(liveness_lock(living_settings.runs_dir / "run-2"), timeout_seconds=1):
        begin("run-3", "c")
    assert (status_of(killed.run), status_of(killed.parent)) == ("KILLED", "KILLED")
    assert (status_of(living.run), status_of(living.parent)) == ("RUNNING", "RUNNING")


def test_a_training_that_was_killed_is_open_again_when_the_next_run_goes_on_with_it(begin, status_of):
    _, killed = begin("run-1")
    _, resumed = begin("run-2")
    assert resumed.run == killed.run
    assert (status_of(killed.parent), status_of(resumed.run), status_of(resumed.parent)) == ("KILLED", "RUNNING", "RUNNING")


def test_a_run_that_ends_closes_what_its_stages_left_open_and_nothing_twice(begin, status_of):
    settings, candidate = begin("run-1")
    candidate.finish("FINISHED")
    close_runs(settings, "KILLED")
    close_runs(settings, "FAILED")
    assert (status_of(candidate.run), status_of(candidate.parent)) == ("FINISHED", "KILLED")


def test_what_a_killed_pod_left_open_is_closed_by_another_one(tracked_settings, status_of, tmp_path):
    killed, finishing = (
        replace(tracked_settings, run_id="run-1", home=tmp_path / name, state_uri=str(tmp_path / "state")) for name in ("a", "b")
    )
    candidate = join_candidate(killed, Config(), "key")
    fetch_run(finishing)
    close_runs(finishing, "FAILED")
    assert (status_of(candidate.run), status_of(candidate.parent)) == ("FAILED", "FAILED")
    assert not list((tmp_path / "state" / "runs" / "run-1").rglob("*.json"))


def test_a_training_is_tracked_once_however_often_it_is_told_of(begin, tracked_settings, tmp_path):
    training = tmp_path / "training"
    write_json(training / HISTORY_NAME, {"epochs": [{"epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2)]})
    facts = TrainingFacts(training_key="key", params={"train.epochs": 2}, metrics={"best_accuracy": 0.9})
    write_json(training / TRACKING_NAME, asdict(facts))
    _, candidate = begin("run-1")
    for _ in range(2):
        track_training(candidate, training)
    client = open_client(tracked_settings)
    data = client.get_run(candidate.run.run_id).data
    assert (data.params, data.metrics["best_accuracy"]) == ({"train.epochs": "2"}, 0.9)
    assert len(client.get_metric_history(candidate.run.run_id, "train_loss")) == 2
