import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slipway.deploy.local import LocalTarget
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.promotion import Challenger, deploy_challenger, roll_back
from slipway.deploy.target import Candidate
from slipway.errors import ConfigError, DeployError
from slipway.export.bundle import read_bundle, read_info
from slipway.serving.record import ServedVersion, ServingRecord, pointer_path, read_serving, serving_folder, write_pointer
from slipway.settings import Settings
from slipway.storage.locks import hold_lock
from slipway.tracking.registry import Lineage, ModelRegistry
from slipway.tracking.runs import Tracker

POLICY = SmokePolicy(tolerance=1e-4, timeout_seconds=30)


class Shipyard:
    """Deploys bundles of the model `colors` as a pipeline does: registered under a run, compared with what serves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tracker = Tracker(settings)
        self.registry = ModelRegistry(settings)
        self.run = self.tracker.join_pipeline_run(experiment="colors", run_id="run-1")

    def challenger(self, bundle_dir: Path, **changes: object) -> Challenger:
        info = read_info(bundle_dir)
        serving = self.serving
        lineage = Lineage(
            bundle_id=info.bundle_id,
            dataset_id=info.dataset_id,
            code_version=info.code_version,
            run_id="run-1",
            ir_hash="i" * 8,
            gate="passed",
            gate_reasons=("It is better.",),
        )
        challenger = Challenger(
            model_name="colors",
            bundle_dir=bundle_dir,
            lineage=lineage,
            evaluated_against=serving.bundle_id if serving else None,
            tracking_run_id=self.run.run_id,
        )
        return replace(challenger, **changes)

    def deploy(self, bundle_dir: Path, **options: object):
        return deploy_challenger(self.settings, self.challenger(bundle_dir), options.pop("policy", POLICY), **options)

    @property
    def serving(self):
        return read_serving(self.settings, "colors")

    @property
    def champion(self) -> str | None:
        version = self.registry.get_champion("colors")
        return version.version if version else None

    @property
    def challenger_alias(self) -> str | None:
        version = self.registry.get_by_alias("colors", "challenger")
        return version.version if version else None


@pytest.fixture
def shipyard(tracked_settings):
    return Shipyard(tracked_settings)


@pytest.fixture
def launched(shipyard, write_image_bundle, tmp_path):
    """Version 1 serves, from a bundle whose folder is gone since: what serves needs nobody else's files."""
    write_image_bundle(tmp_path / "first")
    shipyard.deploy(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "moved")
    return shipyard


def test_a_bundle_that_answers_its_golden_examples_serves_and_becomes_champion(shipyard, write_image_bundle, tmp_path):
    info = write_image_bundle(tmp_path / "bundle")
    deployment = shipyard.deploy(tmp_path / "bundle")
    record = deployment.record
    assert (deployment.already_serving, deployment.golden_max_difference < 1e-6) == (False, True)
    assert record == shipyard.serving
    assert (record.version, record.bundle_id, record.previous, record.confirmed) == ("1", info.bundle_id, None, True)
    assert read_bundle(Path(record.bundle_uri)).info == info
    assert (shipyard.champion, shipyard.challenger_alias) == ("1", None)


def test_deploying_what_serves_already_does_nothing_and_imports_no_mlflow(launched, tmp_path):
    before = pointer_path(launched.settings, "colors").read_bytes()
    script = f"""
import sys
from pathlib import Path
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.promotion import Challenger, deploy_challenger
from slipway.settings import load_settings
from slipway.tracking.registry import Lineage
bundle_id = {launched.serving.bundle_id!r}
lineage = Lineage(
    bundle_id=bundle_id, dataset_id="", code_version="", run_id="", ir_hash="", gate="passed", gate_reasons=()
)
challenger = Challenger(model_name="colors", bundle_dir=Path(), lineage=lineage, evaluated_against=None, tracking_run_id="")
settings = load_settings({{"SLIPWAY_HOME": {str(launched.settings.home)!r}}})
assert deploy_challenger(settings, challenger, SmokePolicy(tolerance=1e-4, timeout_seconds=5)).already_serving
assert "mlflow" not in sys.modules and "onnxruntime" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert pointer_path(launched.settings, "colors").read_bytes() == before


def test_the_version_before_is_kept_and_older_ones_are_removed(launched, write_image_bundle, tmp_path):
    for seed in (1, 2):
        write_image_bundle(tmp_path / str(seed), seed=seed)
        record = launched.deploy(tmp_path / str(seed)).record
    assert (record.version, record.previous.version, launched.champion) == ("3", "2", "3")
    folders = {entry.name for entry in (serving_folder(launched.settings, "colors") / "versions").iterdir()}
    assert folders == {Path(record.bundle_uri).name, Path(record.previous.bundle_uri).name}


def assert_first_still_serves(shipyard: Shipyard) -> None:
    assert (shipyard.serving.version, shipyard.champion) == ("1", "1")
    assert read_bundle(Path(shipyard.serving.bundle_uri)).info.bundle_id == shipyard.serving.bundle_id
    folders = [entry.name for entry in (serving_folder(shipyard.settings, "colors") / "versions").iterdir()]
    assert folders == [Path(shipyard.serving.bundle_uri).name]


def test_a_tampered_model_is_not_even_registered(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    with (tmp_path / "new" / "model.onnx").open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(DeployError, match=r"model.onnx was altered.*Version 1 of colors \(bundle \w+\) still serves"):
        launched.deploy(tmp_path / "new")
    assert_first_still_serves(launched)
    assert len(launched.registry.list_versions("colors")) == 1


def test_a_tampered_model_with_new_hashes_fails_its_golden_examples(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1, golden_from=Path(launched.serving.bundle_uri))
    with pytest.raises(DeployError, match=r"Golden example 1 of 3, probabilities: the answer differs by .*still serves"):
        launched.deploy(tmp_path / "new")
    assert_first_still_serves(launched)
    assert launched.challenger_alias == "2"


def test_a_model_that_crashes_the_predictor_at_its_start_is_not_promoted(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", golden_from=Path(launched.serving.bundle_uri), model_bytes=b"no model at all")
    with pytest.raises(DeployError, match=r"ended with status 1 before it was ready: error: .*not a model.*still serves"):
        launched.deploy(tmp_path / "new")
    assert_first_still_serves(launched)


def test_a_predictor_that_never_becomes_ready_is_given_up_and_ended(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    pid_file = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    target = LocalTarget(settings=launched.settings, predictor_command=(sys.executable, "-c", script))
    with pytest.raises(DeployError, match=r"not ready after 2 s \(deploy.timeout_seconds\).*still serves"):
        launched.deploy(tmp_path / "new", target=target, policy=SmokePolicy(tolerance=1e-4, timeout_seconds=2))
    assert_first_still_serves(launched)
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def refuse_champion_moves(settings: Settings) -> None:
    with sqlite3.connect(settings.home / "mlflow.db") as database:
        for event in ("INSERT", "UPDATE"):
            database.execute(
                f"CREATE TRIGGER refuse_{event} BEFORE {event} ON registered_model_aliases WHEN NEW.alias = 'champion' "
                "BEGIN SELECT RAISE(ABORT, 'the registry is read-only'); END"
            )
    database.close()


def test_a_promotion_is_taken_back_when_the_alias_cannot_be_moved(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    refuse_champion_moves(launched.settings)
    with pytest.raises(DeployError, match=r"Version 2 was taken back.*read-only.*Version 1 of colors .* still serves"):
        launched.deploy(tmp_path / "new")
    assert_first_still_serves(launched)


def test_a_first_promotion_that_is_taken_back_leaves_nothing_serving(shipyard, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new")
    refuse_champion_moves(shipyard.settings)
    with pytest.raises(DeployError, match="Nothing serves as colors"):
        shipyard.deploy(tmp_path / "new")
    assert (shipyard.serving, shipyard.champion) == (None, None)


@dataclass(frozen=True, kw_only=True)
class CutShort(LocalTarget):
    """A target that fails, or whose process is told to end, once the registry has moved the alias and before that is noted."""

    failure: BaseException

    def confirm(self, model_name: str) -> ServingRecord:
        raise self.failure


ENDS = [DeployError("the lease was lost."), KeyboardInterrupt()]


@pytest.mark.parametrize("failure", ENDS, ids=["a failure", "told to end"])
def test_an_alias_that_has_moved_already_goes_back_with_the_version(launched, write_image_bundle, tmp_path, failure):
    write_image_bundle(tmp_path / "new", seed=1)
    with pytest.raises(type(failure)):
        launched.deploy(tmp_path / "new", target=CutShort(settings=launched.settings, failure=failure))
    assert_first_still_serves(launched)


@pytest.mark.parametrize("failure", ENDS, ids=["a failure", "told to end"])
def test_an_alias_that_a_first_promotion_has_made_is_removed_with_it(shipyard, write_image_bundle, tmp_path, failure):
    write_image_bundle(tmp_path / "new")
    with pytest.raises(type(failure)):
        shipyard.deploy(tmp_path / "new", target=CutShort(settings=shipyard.settings, failure=failure))
    assert (shipyard.serving, shipyard.champion) == (None, None)


@dataclass(frozen=True, kw_only=True)
class CutShortAsTheRegistryGoes(LocalTarget):
    """A target that fails once the registry has moved the alias, when that takes no more changes."""

    def confirm(self, model_name: str) -> ServingRecord:
        refuse_champion_moves(self.settings)
        raise DeployError("the lease was lost.")


def test_what_was_restored_is_said_where_only_the_alias_could_not_go_back(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    with pytest.raises(DeployError) as caught:
        launched.deploy(tmp_path / "new", target=CutShortAsTheRegistryGoes(settings=launched.settings))
    told = str(caught.value)
    assert told.startswith("Version 2 was taken back: the lease was lost. The alias champion could not be put back")
    assert "set it to version 1" in told
    assert "Version 1 of colors" in told
    assert "failed too" not in told
    assert (launched.serving.version, launched.champion) == ("1", "2")


def test_a_promotion_cut_off_before_the_alias_moved_is_completed_by_the_next_one(launched, write_image_bundle, tmp_path):
    info = write_image_bundle(tmp_path / "new", seed=1)
    challenger = launched.challenger(tmp_path / "new")
    launched.registry.register_version(
        "colors", challenger.lineage, tracking_run_id=launched.run.run_id, bundle_dir=tmp_path / "new"
    )
    served = ServedVersion(
        version="2", bundle_id=info.bundle_id, bundle_uri=str(tmp_path / "new"), run_id="r", dataset_id="d", code_version="c",
        ir_hash="i", evaluated_against=None,
    )  # fmt: skip
    candidate = Candidate(model_name="colors", served=served, bundle=read_bundle(tmp_path / "new"))
    LocalTarget(settings=launched.settings).promote(candidate)
    assert (launched.champion, launched.serving.version, launched.serving.confirmed) == ("1", "2", False)
    assert deploy_challenger(launched.settings, challenger, POLICY).already_serving
    assert (launched.champion, launched.serving.confirmed) == ("2", True)


def test_a_decision_against_another_champion_promotes_nothing(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    stale = launched.challenger(tmp_path / "new", evaluated_against=None)
    with pytest.raises(DeployError, match=r"compared bundle \w+ with nothing, but now \w+ serves. Run the pipeline again"):
        deploy_challenger(launched.settings, stale, POLICY)
    refused = replace(stale, lineage=replace(stale.lineage, gate="refused", gate_reasons=("It is worse.",)))
    with pytest.raises(DeployError, match=r"The gate refused bundle \w+: It is worse."):
        deploy_challenger(launched.settings, refused, POLICY)
    assert_first_still_serves(launched)


def test_two_deployments_do_not_go_on_at_once(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_lock(serving_folder(launched.settings, "colors") / "lock", timeout_seconds=1):
            held.set()
            released.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(5)
    try:
        with pytest.raises(DeployError, match="Another deployment of colors goes on"):
            launched.deploy(tmp_path / "new", policy=SmokePolicy(tolerance=1e-4, timeout_seconds=0.05))
    finally:
        released.set()
        other.join()
    assert launched.deploy(tmp_path / "new").record.version == "2"


def test_a_rollback_goes_to_the_version_before_and_a_second_one_undoes_it(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    launched.deploy(tmp_path / "new")
    record = roll_back(launched.settings, "colors", POLICY).record
    assert (record.version, record.previous.version, launched.champion) == ("1", "2", "1")
    assert roll_back(launched.settings, "colors", POLICY).record.version == "2"
    assert roll_back(launched.settings, "colors", POLICY, to_version="2").already_serving


def test_a_rollback_reaches_any_version_the_gate_let_through(launched, write_image_bundle, tmp_path):
    for seed in (1, 2):
        write_image_bundle(tmp_path / str(seed), seed=seed)
        launched.deploy(tmp_path / str(seed))
    write_image_bundle(tmp_path / "worse", seed=3)
    lineage = replace(launched.challenger(tmp_path / "worse").lineage, gate="refused")
    launched.registry.register_version("colors", lineage, tracking_run_id=launched.run.run_id, bundle_dir=tmp_path / "worse")
    assert roll_back(launched.settings, "colors", POLICY, to_version="1").record.version == "1"
    assert launched.champion == "1"
    for version, told in [("4", "not let through by the gate"), ("9", "no version '9' of 'colors'; its versions: 4, 3, 2, 1")]:
        with pytest.raises(DeployError, match=f"{told}.*Version 1 of colors .* still serves"):
            roll_back(launched.settings, "colors", POLICY, to_version=version)


def test_a_rollback_to_a_bundle_that_was_altered_on_disk_fetches_it_again(launched, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "new", seed=1)
    launched.deploy(tmp_path / "new")
    (Path(launched.serving.previous.bundle_uri) / "model.onnx").write_bytes(b"other")
    assert roll_back(launched.settings, "colors", POLICY).record.version == "1"
    assert read_bundle(Path(launched.serving.bundle_uri)).info.bundle_id == launched.serving.bundle_id


@pytest.fixture
def forgotten(launched, write_image_bundle, empty_database, tmp_path):
    """Version 2 serves, 1 did before, and the registry's file was begun anew since."""
    write_image_bundle(tmp_path / "second", seed=1)
    launched.deploy(tmp_path / "second")
    shutil.copyfile(empty_database, launched.settings.home / "mlflow.db")
    return Shipyard(launched.settings)


def test_what_serves_is_registered_again_where_the_registry_has_lost_it(forgotten, tmp_path):
    way_back = forgotten.serving.previous
    record = forgotten.deploy(tmp_path / "second").record
    assert (record.version, forgotten.champion, record.previous) == ("1", "1", way_back)
    assert forgotten.deploy(tmp_path / "second").already_serving


def test_an_alias_goes_away_where_the_registry_has_lost_what_was_restored(forgotten, write_image_bundle, tmp_path):
    write_image_bundle(tmp_path / "third", seed=2)
    with pytest.raises(DeployError, match="was taken back"):
        forgotten.deploy(tmp_path / "third", target=CutShort(settings=forgotten.settings, failure=DeployError("no.")))
    assert (forgotten.serving.version, forgotten.champion) == ("2", None)


def test_a_rollback_names_what_the_registry_has_lost_and_blocks_no_deployment(forgotten, write_image_bundle, tmp_path):
    with pytest.raises(
        DeployError, match=r"Version 1 \(bundle \w+\) served before, but the registry no longer holds it.*still serves"
    ):
        roll_back(forgotten.settings, "colors", POLICY)
    pointer = pointer_path(forgotten.settings, "colors")
    write_pointer(pointer, replace(forgotten.serving, confirmed=False))
    write_image_bundle(tmp_path / "third", seed=2)
    record = forgotten.deploy(tmp_path / "third").record
    assert (record.version, forgotten.champion, record.previous.version) == ("1", "1", "2")


def test_where_there_is_nothing_to_go_back_to_it_is_said(launched):
    with pytest.raises(DeployError, match=r"no previous version.*Version 1 of colors .* still serves"):
        roll_back(launched.settings, "colors", POLICY)
    with pytest.raises(DeployError, match=r"nothing to go back from. Nothing serves as shades"):
        roll_back(launched.settings, "shades", POLICY)
    with pytest.raises(ConfigError, match=r"deploy.model_name is '../colors'; accepted: 1 to 63 letters"):
        roll_back(launched.settings, "../colors", POLICY)


def test_the_home_folder_can_be_moved_with_all_that_serves(launched, tmp_path):
    moved = replace(launched.settings, home=tmp_path / "elsewhere")
    launched.settings.home.rename(moved.home)
    record = read_serving(moved, "colors")
    assert read_bundle(Path(record.bundle_uri)).info.bundle_id == record.bundle_id


def test_a_damaged_pointer_is_said(launched):
    path = pointer_path(launched.settings, "colors")
    for content in ("{", "[]", json.dumps({"version": "1", "previous": None})):
        path.write_text(content)
        with pytest.raises(DeployError, match=r"current.json is damaged .*Remove it and deploy again"):
            read_serving(launched.settings, "colors")
