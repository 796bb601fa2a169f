"""The places that storage is tested on: this machine's disk, and a bucket of its own on each S3 server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage
from tests.servers.s3 import S3Server, start_minio


@pytest.fixture(params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the two servers."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(server: S3Server) -> str:
    """An empty bucket of `server`."""
    return server.make_bucket()


@pytest.fixture
def storage(server: S3Server) -> ObjectStorage:
    return ObjectStorage(server.settings())


@pytest.fixture(params=["local", "minio", "versitygw"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ObjectStorage, str]:
    """Storage, and the URI of an empty folder: on disk, and on each server."""
    if request.param == "local":
        return ObjectStorage(load_settings({})), str(tmp_path / "stored")
    found: S3Server = request.getfixturevalue(request.param)
    return ObjectStorage(found.settings()), f"s3://{found.make_bucket()}/some/folder"


@pytest.fixture
def start_server(minio: S3Server, tmp_path: Path) -> Iterator[Callable[[], S3Server]]:
    """Starts a MinIO that the test may break; `minio` skips it where there can be none."""
    started: list[S3Server] = []

    def start() -> S3Server:
        started.append(start_minio(tmp_path / f"server-{len(started)}"))
        return started[-1]

    yield start
    for server in started:
        server.stop()
