"""What the tests of the running predictor share: small bundles, and predictors that end with their test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest

from slipway.export.bundle import Bundle, read_bundle
from tests.bundles import write_image_bundle
from tests.servers.programs import GoMissingError
from tests.servers.s3 import S3Server, start_minio
from tests.serving.predictor import Predictor, start_predictor

StartPredictor = Callable[..., Predictor]


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that tells dark, bright and red images apart, whatever their size."""
    root = tmp_path_factory.mktemp("image-bundle") / "bundle"
    write_image_bundle(root)
    return read_bundle(root)


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPredictor]:
    """`start_predictor`, whose predictors end with the test."""
    with ExitStack() as stack:
        yield partial(_start_until, stack, tmp_path_factory)


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPredictor]:
    """`start_predictor`, whose predictors end with the module."""
    with ExitStack() as stack:
        yield partial(_start_until, stack, tmp_path_factory)


@pytest.fixture(scope="module")
def predictor(start_for_module: StartPredictor, image_bundle: Bundle) -> Predictor:
    """A predictor of `image_bundle` with every option left alone."""
    return start_for_module(image_bundle.root)


@pytest.fixture(scope="module")
def grpc_predictor(start_for_module: StartPredictor, image_bundle: Bundle) -> Predictor:
    """The same with gRPC, and messages of a megabyte at most."""
    return start_for_module(image_bundle.root, "--grpc-port", "0", "--max-body-bytes", "1000000")


@pytest.fixture(scope="module")
def channel(grpc_predictor: Predictor) -> Iterator[grpc.Channel]:
    """To `grpc_predictor`."""
    with grpc.insecure_channel(f"127.0.0.1:{grpc_predictor.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="session")
def example(image_bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """An image, and its probabilities."""
    golden = image_bundle.golden[1]
    return golden.inputs["image"], golden.outputs["probabilities"]


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the session."""
    try:
        server = start_minio(tmp_path_factory.mktemp("minio"))
    except GoMissingError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


def _start_until(
    stack: ExitStack, folders: pytest.TempPathFactory, bundle_dir: Path | str | None, *arguments: str, **options: object
) -> Predictor:
    options.setdefault("folder", folders.mktemp("predictor"))
    started = start_predictor(bundle_dir, *arguments, **options)  # type: ignore[arg-type]
    stack.callback(started.stop)
    return started
