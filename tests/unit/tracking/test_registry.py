import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.errors import BundleError, RegistryError, StorageError
from slipway.export.bundle import read_bundle
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from slipway.tracking.client import open_client
from slipway.tracking.registry import Lineage, ModelRegistry
from slipway.tracking.runs import Tracker

LINEAGE = Lineage(
    bundle_id="b1",
    dataset_id="d1",
    code_version="c1",
    run_id="run-1",
    ir_hash="i1",
    gate="refused",
    gate_reasons=("Accuracy 0.31 is below the floor of 0.7.", "Class '3' fell by 0.2."),
)
SOURCE = "s3://bucket/bundles/b1/"


@pytest.fixture
def registry(tracked_settings):
    return ModelRegistry(tracked_settings)


@pytest.fixture
def run(tracked_settings):
    return Tracker(tracked_settings).join_pipeline_run(experiment="digits", run_id="run-1")


def test_a_version_carries_its_lineage_and_the_gates_reasons(registry, run):
    version = registry.register_version("digits", LINEAGE, tracking_run_id=run.run_id, source_uri=SOURCE)
    assert (version.name, version.version, version.source, version.tracking_run_id) == ("digits", "1", SOURCE, run.run_id)
    for field, value in vars(LINEAGE).items():
        assert getattr(version, field) == value
    assert registry.list_versions() == [version]


def test_a_bundle_is_registered_once(registry, run):
    first = registry.register_version("digits", LINEAGE, tracking_run_id=run.run_id, source_uri=SOURCE)
    judged_again = replace(LINEAGE, gate="passed", gate_reasons=())
    second = registry.register_version("digits", judged_again, tracking_run_id=run.run_id, source_uri="s3://elsewhere/")
    assert second == replace(first, gate="passed", gate_reasons=())
    other = registry.register_version("digits", replace(LINEAGE, bundle_id="b2"), tracking_run_id=run.run_id, source_uri=SOURCE)
    assert other.version == "2"
    assert [version.version for version in registry.list_versions("digits")] == ["2", "1"]
    with pytest.raises(RegistryError, match="needs the folder or the URI"):
        registry.register_version("digits", replace(LINEAGE, bundle_id="b3"), tracking_run_id=run.run_id)


def test_aliases_move_and_a_missing_one_is_no_version(registry, run):
    assert registry.get_champion("digits") is None
    for bundle_id in ("b1", "b2"):
        registry.register_version("digits", replace(LINEAGE, bundle_id=bundle_id), tracking_run_id=run.run_id, source_uri=SOURCE)
    assert registry.get_champion("digits") is None
    registry.set_alias("digits", "champion", "1")
    registry.set_alias("digits", "challenger", "2")
    assert registry.get_champion("digits").version == "1"
    assert [version.aliases for version in registry.list_versions("digits")] == [("challenger",), ("champion",)]
    registry.set_alias("digits", "champion", "2")
    assert registry.get_champion("digits").aliases == ("challenger", "champion")
    registry.delete_alias("digits", "champion")
    assert registry.get_champion("digits") is None
    assert registry.get_by_alias("digits", "challenger").version == "2"
    with pytest.raises(RegistryError, match="moving digits@champion to version 9 failed"):
        registry.set_alias("digits", "champion", "9")


def test_a_registered_bundle_outlives_the_folder_it_came_from(registry, run, write_image_bundle, tmp_path):
    info = write_image_bundle(tmp_path / "made here")
    lineage = replace(LINEAGE, bundle_id=info.bundle_id)
    version = registry.register_version("digits", lineage, tracking_run_id=run.run_id, bundle_dir=tmp_path / "made here")
    (tmp_path / "made here").rename(tmp_path / "gone")
    assert registry.download_bundle(version, tmp_path / "fetched").info == info
    assert read_bundle(tmp_path / "fetched").info == info


def test_a_registered_bundle_that_was_altered_is_not_handed_out(registry, run, write_image_bundle, tmp_path):
    info = write_image_bundle(tmp_path / "bundle")
    lineage = replace(LINEAGE, bundle_id=info.bundle_id)
    version = registry.register_version("digits", lineage, tracking_run_id=run.run_id, bundle_dir=tmp_path / "bundle")
    (stored,) = Path(version.source.removeprefix("file://")).glob("model.onnx")
    stored.write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model.onnx was altered"):
        registry.download_bundle(version, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_versions_registered_by_other_means_are_listed_too(registry, tracked_settings):
    client = open_client(tracked_settings)
    client.create_registered_model("other's")
    client.create_model_version("other's", source="s3://bucket/model")
    (version,) = registry.list_versions("other's")
    assert (version.gate, version.gate_reasons, version.bundle_id) == ("", (), "")


def test_where_nothing_was_registered_nothing_is_found_without_importing_mlflow(tmp_path):
    script = f"""
import sys
from slipway.settings import load_settings
from slipway.tracking.registry import ModelRegistry
registry = ModelRegistry(load_settings({{"SLIPWAY_HOME": {str(tmp_path)!r}}}))
assert registry.get_champion("digits") is None and registry.list_versions() == []
assert "mlflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert list(tmp_path.iterdir()) == []


def test_making_the_database_says_nothing(tmp_path):
    script = f"""
from slipway.settings import load_settings
from slipway.tracking.runs import Tracker
tracker = Tracker(load_settings({{"SLIPWAY_HOME": {str(tmp_path / "home")!r}}}))
tracker.join_pipeline_run(experiment="digits", run_id="run-1")
"""
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("", "")
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["mlflow.db"]


def test_an_empty_home_is_listed_through_a_server_uri_as_unreachable(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
    with pytest.raises(RegistryError, match="slipway doctor"):
        ModelRegistry(settings).list_versions()


def test_a_bundle_in_an_object_store_is_fetched_without_its_siblings(tracked_settings, run, minio, write_image_bundle, tmp_path):
    info = write_image_bundle(tmp_path / "bundle")
    folder = f"s3://{minio.make_bucket()}/digits/model"
    storage = ObjectStorage(minio.settings())
    storage.upload_folder(tmp_path / "bundle", folder)
    storage.write_bytes(f"{folder}_b/model.onnx", b"a sibling whose name begins alike")
    access = {"s3_endpoint": minio.endpoint, "s3_access_key": minio.access_key, "s3_secret_key": minio.secret_key}
    registry = ModelRegistry(replace(tracked_settings, **access))
    lineage = replace(LINEAGE, bundle_id=info.bundle_id)
    version = registry.register_version("digits", lineage, tracking_run_id=run.run_id, source_uri=folder)
    assert registry.download_bundle(version, tmp_path / "fetched").info == info
    with pytest.raises(StorageError, match="/nowhere holds nothing"):
        registry.download_bundle(replace(version, source=f"{folder}/nowhere"), tmp_path / "nothing")
    with pytest.raises(StorageError, match="no S3 endpoint is set"):
        ModelRegistry(tracked_settings).download_bundle(version, tmp_path / "nothing")


def test_a_version_is_held_as_long_as_the_file_that_it_was_registered_in(registry, run, tracked_settings):
    registry.register_version("digits", LINEAGE, tracking_run_id=run.run_id, source_uri=SOURCE)
    assert registry.holds("digits", "1", "b1")
    assert not registry.holds("digits", "1", "b2")
    assert not registry.holds("digits", "2", "b1")
    (tracked_settings.home / "mlflow.db").unlink()
    assert not registry.holds("digits", "1", "b1")


def test_a_home_whose_name_a_uri_would_end_at_keeps_its_registry(tmp_path):
    settings = load_settings({"SLIPWAY_HOME": str(tmp_path / "my models? 100%20 #1")})
    tracked = Tracker(settings).join_pipeline_run(experiment="digits", run_id="run-1")
    ModelRegistry(settings).register_version("digits", LINEAGE, tracking_run_id=tracked.run_id, source_uri=SOURCE)
    assert (settings.home / "mlflow.db").is_file()
    assert ModelRegistry(settings).holds("digits", "1", "b1")
