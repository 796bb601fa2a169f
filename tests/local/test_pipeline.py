"""The compiled pipeline, end to end, on real data."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from slipway.errors import DeployError
from slipway.export.bundle import INFO_NAME, read_bundle, write_bundle
from slipway.stages.record import STAGES
from tests.slipway_home import QUICK, SLIPWAY, Home


def test_a_good_model_is_let_through_and_serves(served: Home) -> None:
    report = served.report(served.first_run)
    assert report["status"] == "SUCCEEDED"
    assert report["decision"]["passed"]
    assert report["metrics"]["accuracy"] > 0.9
    assert report["serving_version"] == report["model_version"] == served.serving("digits")["version"]
    assert [stage["name"] for stage in report["stages"]] == list(STAGES)
    assert "<html" in Path(report["report"]).read_text()


def test_a_run_with_nothing_changed_reuses_every_stage_and_tracks_nothing_twice(served: Home) -> None:
    before = count_mlflow_runs(served)
    result = served.slipway("run", *QUICK)
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(stage["cached"] for stage in served.report()["stages"])
    assert count_mlflow_runs(served) == before


def test_the_gate_refuses_a_crippled_model_and_the_champion_goes_on_serving(served: Home) -> None:
    champion = served.serving("digits")
    result = served.slipway("run", "train.epochs=1", "train.learning_rate=1e-7", "model.width=0.05")
    assert result.returncode == 3, result.stdout + result.stderr
    report = served.report()
    assert report["status"] == "SUCCEEDED"
    assert not report["decision"]["passed"]
    assert any("misses the floor" in reason for reason in report["decision"]["refusals"])
    assert "refused" in Path(report["report"]).read_text().lower()
    assert served.serving("digits") == champion
    assert report["serving_version"] == champion["version"] != report["model_version"]
    assert "deploy" not in [stage["name"] for stage in report["stages"]]
    listed = json.loads(served.slipway("models", "digits", "--json").stdout)
    gates = {version["version"]: (version["gate"], version["aliases"]) for version in listed}
    assert gates[champion["version"]] == ("passed", ["champion"])
    assert gates[report["model_version"]] == ("refused", ["challenger"])


def test_a_wrong_setting_ends_with_status_2_before_anything_runs(served: Home) -> None:
    runs = sorted((served.path / "runs").iterdir())
    for override, told in {
        "train.epocs=3": "train.epochs",
        "train.optimizer=adma": "sgd, adam, adamw",
        "train.epochs=few": "whole",
        "model.architecture=resnet19": "resnet18",
    }.items():
        result = served.slipway("run", override)
        assert result.returncode == 2
        assert told in result.stderr
    assert sorted((served.path / "runs").iterdir()) == runs


def test_a_table_goes_through_the_same_pipeline(served: Home) -> None:
    result = served.slipway("run", "data.source=sklearn://wine")
    assert result.returncode == 0, result.stdout + result.stderr
    report = served.report()
    assert report["model_name"] == "wine"
    assert report["metrics"]["accuracy"] > 0.9
    assert served.serving("digits")["version"] == "1"
    assert len(run_names(served, "wine")) == 2, "the pipeline's run and its one candidate"
    assert report["run_id"] not in run_names(served, "digits")


def test_a_broken_bundle_fails_the_smoke_test_and_leaves_the_champion(served: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.stages.deploy import run_deploy
    from slipway.stages.verdict import read_verdict, write_verdict

    champion = served.serving("digits")
    monkeypatch.setenv("SLIPWAY_HOME", str(served.path))
    monkeypatch.setenv("SLIPWAY_RUN_ID", "broken")
    verdicts = [read_verdict(folder) for folder in (served.path / "cache" / "evaluate").glob("*/outputs/evaluation")]
    verdict = next(verdict for verdict in verdicts if verdict.model_name == "digits")
    broken = served.path.parent / "broken"
    shutil.copytree(served.path / "serving" / "digits" / champion["bundle_uri"], broken)
    bundle_id = spoil_weights(broken)
    evaluated = served.path.parent / "evaluated"
    evaluated.mkdir()
    lineage = replace(verdict.lineage, bundle_id=bundle_id, gate="passed")
    write_verdict(evaluated, replace(verdict, lineage=lineage, champion=champion["bundle_id"]))
    with pytest.raises(DeployError, match=r"Golden example .* still serves"):
        run_deploy({"data_source": "sklearn://digits"}, str(broken), str(evaluated), str(served.path.parent / "served"))
    assert served.serving("digits") == champion
    listed = json.loads(served.slipway("models", "digits", "--json").stdout)
    assert [version["version"] for version in listed if "champion" in version["aliases"]] == [champion["version"]]


@pytest.mark.timeout(900)
def test_a_run_killed_at_each_stage_goes_on_from_there_when_it_is_started_again(killed: Home) -> None:
    """Four times in turn, so that the model is trained once."""
    settings = ("train.epochs=40",)
    for number, stage in enumerate(STAGES[1:]):
        process = subprocess.Popen(
            [SLIPWAY, "run", *settings],
            env=killed.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=killed.path.parent,
        )
        wait_for_stage(killed, stage, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_reused(killed, STAGES[:number])
    result = killed.slipway("run", *settings)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_reused(killed, STAGES[:-1])
    report = killed.report()
    assert report["status"] == "SUCCEEDED"
    assert [stage["name"] for stage in report["stages"]] == list(STAGES)
    resumed = sorted((killed.path / "runs").iterdir())[STAGES.index("evaluate") - 1]
    log = (resumed / "logs" / "train.log").read_text()
    assert '"event": "resumed"' in log or '"epoch": 1,' not in log


def assert_reused(home: Home, stages: Sequence[str]) -> None:
    """By the newest run."""
    records = max((home.path / "runs").iterdir()) / "stages"
    assert [name for name in stages if not json.loads((records / f"{name}.json").read_text())["cached"]] == []


def test_a_run_that_is_cancelled_leaves_nothing_under_way_and_goes_on_when_started_again(killed: Home) -> None:
    seed = ("train.epochs=40", "train.seed=9")
    process = subprocess.Popen(
        [SLIPWAY, "run", *seed], env=killed.environment, stdout=subprocess.PIPE, text=True, cwd=killed.path.parent
    )
    wait_for_stage(killed, "train", process)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, "goes on from where it was" in told) == (130, True)
    report = killed.report()
    assert (report["status"], report["stages"][-1]["name"], report["stages"][-1]["status"]) == ("CANCELLED", "train", "CANCELLED")
    assert report["model_name"] == "digits"
    assert find_processes(killed) == []
    assert "RUNNING" not in mlflow_statuses(killed)
    assert killed.slipway("run", *seed).returncode in (0, 3)
    assert "RUNNING" not in mlflow_statuses(killed)


@pytest.fixture(scope="module")
def killed(new_home: Callable[[], Home]) -> Home:
    return new_home()


def wait_for_stage(home: Home, stage: str, process: subprocess.Popen[bytes], timeout: float = 200) -> None:
    """Until the stage is under way: for training, until it has written a checkpoint."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        begun = list((home.path / "runs").glob(f"*/stages/{stage}.json"))
        newest = max(begun, default=None, key=lambda path: path.parent.parent.name)
        running = newest is not None and json.loads(newest.read_text())["status"] == "RUNNING"
        if running and (stage != "train" or list((home.path / "work" / "train").glob("*/last.pt"))):
            return
        time.sleep(0.02)
    raise AssertionError(f"{stage} was never seen under way")


def find_processes(home: Home) -> list[str]:
    """Command lines of what was started for this home and is still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SLIPWAY_HOME={home.path}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def mlflow_statuses(home: Home) -> list[str]:
    with sqlite3.connect(home.path / "mlflow.db") as database:
        statuses = [status for (status,) in database.execute("select status from runs")]
    database.close()
    return statuses


def run_names(home: Home, experiment: str) -> list[str]:
    query = "select r.name from runs r join experiments e using (experiment_id) where e.name = ?"
    with sqlite3.connect(home.path / "mlflow.db") as database:
        names = [name for (name,) in database.execute(query, (experiment,))]
    database.close()
    return names


def count_mlflow_runs(home: Home) -> int:
    with sqlite3.connect(home.path / "mlflow.db") as database:
        count: int = database.execute("select count(*) from runs").fetchone()[0]
    database.close()
    return count


def spoil_weights(bundle_dir: Path) -> str:
    """Turn the model's answers around and make the bundle consistent again, so that only its answers tell."""
    bundle = read_bundle(bundle_dir)
    model = onnx.load(bundle.model_path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim >= 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, bundle.model_path)
    (bundle_dir / INFO_NAME).unlink()
    return write_bundle(bundle_dir, bundle.info, bundle.golden).bundle_id
