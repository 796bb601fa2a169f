import math
from dataclasses import replace

import pytest

from slipway.errors import RegistryError
from slipway.settings import load_settings
from slipway.tracking.client import open_client
from slipway.tracking.runs import Tracker


@pytest.fixture
def client(tracked_settings):
    return open_client(tracked_settings)


def all_runs(client):
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_a_stage_tried_again_joins_the_runs_it_had(tracked_settings, client):
    joined = set()
    for _ in range(2):
        tracker = Tracker(tracked_settings)
        pipeline = tracker.join_pipeline_run(experiment="digits", run_id="run-1", tags={"source": "sklearn://digits"})
        candidate = tracker.join_candidate_run(pipeline, training_key="key-1", name="resnet9")
        joined.add((pipeline, candidate))
    assert len(joined) == 1
    assert len(all_runs(client)) == 2
    stored = client.get_run(candidate.run_id)
    assert stored.data.tags["mlflow.parentRunId"] == pipeline.run_id
    assert stored.info.run_name == "resnet9"
    assert client.get_run(pipeline.run_id).data.tags["source"] == "sklearn://digits"


def test_other_runs_and_other_trainings_get_runs_of_their_own(tracked_settings):
    tracker = Tracker(tracked_settings)
    first = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    second = tracker.join_pipeline_run(experiment="digits", run_id="run-2")
    candidates = {tracker.join_candidate_run(first, training_key=key, name="c").run_id for key in ("a", "b")}
    assert len({first.run_id, second.run_id} | candidates) == 4
    assert tracker.join_candidate_run(second, training_key="a", name="c").run_id in candidates


def test_a_run_that_failed_is_open_again_when_it_is_joined(tracked_settings, client):
    tracker = Tracker(tracked_settings)
    run = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    tracker.finish(run, "FAILED")
    tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    assert client.get_run(run.run_id).info.status == "RUNNING"
    tracker.finish(run, "FINISHED")
    tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_resumed_history_continues_where_it_stopped(tracked_settings, client):
    tracker = Tracker(tracked_settings)
    run = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    history = {epoch: {"loss": 1 / epoch, "recall/class[3]": 0.5} for epoch in range(1, 6)}
    tracker.log_history(run, {epoch: history[epoch] for epoch in (1, 2, 3)})
    tracker.log_history(run, history)
    logged = client.get_metric_history(run.run_id, "loss")
    assert [(entry.step, entry.value) for entry in logged] == [(epoch, 1 / epoch) for epoch in range(1, 6)]
    assert len(client.get_metric_history(run.run_id, "recall/class_3_")) == 5


def test_parameters_and_figures_stand_once_however_often_they_are_logged(tracked_settings, client):
    tracker = Tracker(tracked_settings)
    run = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    params = {f"train.setting_{number}": number for number in range(150)}
    for _ in range(2):
        tracker.log_params(run, params)
        tracker.log_metrics(run, {"accuracy": 0.98, "loss": math.nan})
    tracker.log_params(run, {"train.setting_0": "another", "train.epochs": 3})
    data = client.get_run(run.run_id).data
    assert (len(data.params), data.params["train.setting_0"], data.params["train.epochs"]) == (151, "0", "3")
    assert len(client.get_metric_history(run.run_id, "accuracy")) == 1


def test_artifacts_lie_under_the_home_folder(tracked_settings, client, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "loss.png").write_bytes(b"png")
    tracker = Tracker(tracked_settings)
    run = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    tracker.log_artifacts(run, tmp_path / "plots", "plots")
    tracker.log_artifacts(run, tmp_path / "plots" / "loss.png")
    stored = sorted(path.name for path in (tracked_settings.home / "mlartifacts").rglob("*") if path.is_file())
    assert stored == ["loss.png", "loss.png"]
    assert run.artifact_uri.startswith((tracked_settings.home / "mlartifacts").as_uri())


def test_the_runs_that_kfp_started_are_joined_and_its_figures_not_logged_twice(tracked_settings, client):
    experiment = client.create_experiment("kfp")
    kfp_run = client.create_run(experiment, run_name="kfp pipeline run").info.run_id
    kfp_task = client.create_run(experiment, run_name="train", tags={"mlflow.parentRunId": kfp_run}).info.run_id
    tracker = Tracker(replace(tracked_settings, mlflow_run_id=kfp_task))
    pipeline = tracker.join_pipeline_run(experiment="digits", run_id="run-1")
    candidate = tracker.join_candidate_run(pipeline, training_key="key-1", name="resnet9")
    assert (pipeline.run_id, candidate.run_id) == (kfp_run, kfp_task)
    tracker.log_metrics(candidate, {"accuracy": 0.9, "loss": 0.1}, shown_by_kfp=("accuracy",))
    assert client.get_run(kfp_task).data.metrics == {"loss": 0.1}

    evaluate_task = client.create_run(experiment, tags={"mlflow.parentRunId": kfp_run}).info.run_id
    later = Tracker(replace(tracked_settings, mlflow_run_id=evaluate_task))
    again = later.join_candidate_run(later.join_pipeline_run(experiment="digits", run_id="run-1"), training_key="key-1", name="c")
    assert again.run_id == kfp_task
    later.log_metrics(again, {"accuracy": 0.9}, shown_by_kfp=("accuracy",))
    assert client.get_run(kfp_task).data.metrics["accuracy"] == 0.9
    assert len(all_runs(client)) == 3


def test_a_deleted_experiment_is_said_with_the_remedy(tracked_settings, client):
    client.delete_experiment(client.create_experiment("digits"))
    with pytest.raises(RegistryError, match=r"'digits' was deleted. Restore it \(`mlflow experiments restore`\)"):
        Tracker(tracked_settings).join_pipeline_run(experiment="digits", run_id="run-1")


def test_an_mlflow_that_does_not_answer_is_said_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://someone:secret@127.0.0.1:1"
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": uri})
    with pytest.raises(RegistryError, match=r"MLflow at http://someone:\*\*\*@127.0.0.1:1: .*MLFLOW_TRACKING_URI") as caught:
        Tracker(settings).join_pipeline_run(experiment="digits", run_id="run-1")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_said(tmp_path):
    (tmp_path / "mlflow.db").write_text("notes")
    with pytest.raises(RegistryError, match=r"opening the store failed: .*not a database"):
        Tracker(load_settings({"SLIPWAY_HOME": str(tmp_path)}))
