"""The compiled pipeline on a real Kubeflow Pipelines: artifacts, decision, lineage, caching, and what the model answers."""

import random
import uuid
from pathlib import Path

import pytest

from slipway.deploy.bundles import fetch_bundle
from slipway.deploy.smoke import check_golden_examples
from slipway.deploy.targets import open_target
from slipway.serving.record import ServingRecord
from slipway.tracking.registry import ModelRegistry
from tests.integration.kfp_task import PIPELINE_ROOT
from tests.kfp.conftest import Installation, Run

TASKS = ("ingest", "preprocess", "train", "evaluate", "deploy", "finish")
STAGES = TASKS[:-1]
CACHED_BY_KFP = ("ingest", "preprocess", "train")


@pytest.fixture(scope="module")
def model() -> str:
    """A name of this session's own: the registry and the namespace are not."""
    return f"digits-kfp-{uuid.uuid4().hex[:5]}"


@pytest.fixture(scope="module")
def settings_given(model: str) -> tuple[str, ...]:
    unlike_earlier_sessions = f"data.max_imbalance={100 + random.random():.9f}"  # or KFP's cache would know all of it
    return (f"deploy.model_name={model}", unlike_earlier_sessions, "train.epochs=8", "deploy.slo_seconds=3")


@pytest.fixture(scope="module")
def first(installation: Installation, settings_given: tuple[str, ...]) -> Run:
    return installation.submit(*settings_given)


@pytest.fixture(scope="module")
def again(installation: Installation, settings_given: tuple[str, ...], first: Run) -> Run:
    return installation.submit(*settings_given)


def serving(installation: Installation, model: str) -> ServingRecord:
    record = open_target(installation.settings, "kserve").read_serving(model)
    assert record is not None
    return record


def list_outputs(installation: Installation, run: Run, task: str) -> list[str]:
    """What a task has written to KFP's bucket."""
    folder = f"{PIPELINE_ROOT}/slipway-training/{run.run_id}/{task}"
    return [file.name for file in installation.platform.storage.list_files(folder)]


def test_every_task_succeeds_and_kfp_says_so(first: Run) -> None:
    assert {task: first.states.get(task) for task in TASKS} == dict.fromkeys(TASKS, "SUCCEEDED")


def test_the_artifacts_of_each_task_lie_in_the_object_store(installation: Installation, first: Run) -> None:
    expected = {
        "ingest": ("raw/provenance.json", "/report", "/summary"),
        "preprocess": ("dataset/manifest.json",),
        "train": ("bundle/model.onnx", "bundle/golden.json", "training/history.json"),
        "evaluate": ("evaluation/verdict.json", "/report", "/summary"),
        "deploy": ("/served",),
    }
    for task, names in expected.items():
        written = list_outputs(installation, first, task)
        assert [name for name in names if not any(one.endswith(name) for one in written)] == [], (task, written)


def test_the_gate_let_the_model_through_and_its_version_serves(installation: Installation, first: Run, model: str) -> None:
    assert first.summary["status"] == "SUCCEEDED"
    assert first.summary["decision"]["passed"]
    assert first.summary["metrics"]["accuracy"] > 0.9
    record = serving(installation, model)
    assert first.summary["serving_version"] == first.summary["model_version"] == record.version
    assert record.confirmed


def test_lineage_leads_from_the_data_to_the_inference_service(installation: Installation, first: Run, model: str) -> None:
    (version,) = ModelRegistry(installation.settings).list_versions(model)
    record = serving(installation, model)
    dataset_id, bundle_id = first.summary["dataset_id"], first.summary["bundle_id"]
    assert dataset_id
    assert bundle_id
    assert (version.dataset_id, version.bundle_id, version.run_id) == (dataset_id, bundle_id, first.run_id)
    assert (record.dataset_id, record.bundle_id, record.run_id) == (dataset_id, bundle_id, first.run_id)
    assert version.ir_hash == record.ir_hash != ""
    assert version.aliases == ("champion",)
    assert version.source == record.bundle_uri


def test_the_served_model_answers_as_it_was_evaluated(installation: Installation, first: Run, model: str, tmp_path: Path) -> None:
    record = serving(installation, model)
    bundle = fetch_bundle(installation.settings, record.bundle_uri, tmp_path / "bundle")
    target = open_target(installation.settings, "kserve")  # asks through the API server
    with target.lock(model, timeout_seconds=60), target.serving_endpoint(record, timeout_seconds=60) as endpoint:
        assert endpoint is not None
        assert check_golden_examples(endpoint, bundle, tolerance=1e-3, timeout_seconds=60) <= 1e-3


def test_a_second_submission_of_the_same_does_no_work(installation: Installation, first: Run, again: Run, model: str) -> None:
    assert {task: again.states.get(task) for task in TASKS} == dict.fromkeys(TASKS, "SUCCEEDED")
    for task in CACHED_BY_KFP:
        assert list_outputs(installation, first, task), f"{task} has written nothing the first time"
        assert list_outputs(installation, again, task) == [], f"{task} was not taken from KFP's cache"
    cached = {stage["name"]: stage["cached"] for stage in again.summary["stages"]}
    assert cached == {"evaluate": True, "deploy": True}, "what KFP does not cache finds its own work done"
    record = serving(installation, model)
    assert (record.run_id, record.version) == (first.run_id, first.summary["model_version"])
    assert len(ModelRegistry(installation.settings).list_versions(model)) == 1


def test_a_worse_model_is_refused_and_the_champion_goes_on_serving(
    installation: Installation, again: Run, model: str, settings_given: tuple[str, ...]
) -> None:
    before = serving(installation, model)
    refused = installation.submit(*settings_given, "train.epochs=1", "train.learning_rate=1e-7")
    assert refused.summary["status"] == "SUCCEEDED"
    assert not refused.summary["decision"]["passed"]
    assert refused.states.get("deploy") in (None, "SKIPPED")
    assert serving(installation, model) == before
