"""What unit tests share: settings with an MLflow of their own, S3 servers, small bundles."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from slipway.export.bundle import BundleInfo
from slipway.settings import Settings, load_settings
from slipway.tracking.client import open_client
from tests import bundles
from tests.servers import predictor
from tests.servers.predictor import RunningPredictor
from tests.servers.programs import GoMissingError
from tests.servers.s3 import S3Server, start_minio, start_versitygw

WriteBundle = Callable[..., BundleInfo]

# No test depends on how fast the machine is.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"SLIPWAY_HOME": str(tmp_path / "home")})


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a row: making them takes a second or more, copying them none."""
    home = tmp_path_factory.mktemp("mlflow")
    open_client(load_settings({"SLIPWAY_HOME": str(home)}))
    return home / "mlflow.db"


@pytest.fixture
def tracked_settings(settings: Settings, empty_database: Path) -> Settings:
    """Settings whose MLflow is ready for use."""
    settings.home.mkdir()
    shutil.copyfile(empty_database, settings.home / "mlflow.db")
    return settings


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from _run_server(start_minio, tmp_path_factory.mktemp("minio"))


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    yield from _run_server(start_versitygw, tmp_path_factory.mktemp("versitygw"))


def _run_server(start: Callable[[Path], S3Server], folder: Path) -> Iterator[S3Server]:
    try:
        server = start(folder)
    except GoMissingError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def write_image_bundle() -> WriteBundle:
    """Writes a bundle that tells dark, bright and red images apart by their mean colour; `seed` decides its weights."""
    return bundles.write_image_bundle


@pytest.fixture(scope="session")
def run_predictor() -> Callable[..., AbstractContextManager[RunningPredictor]]:
    """Starts `python -m slipway.serving` with more arguments, and ends it with the block."""
    return predictor.run_predictor
