"""A loaded model of images and one of a table's rows."""

from collections.abc import Iterator, MutableMapping

import pytest
import structlog.testing

from slipway.serving.inference.model import LoadedModel, ModelSlot, load_model
from tests.bundles import write_image_bundle, write_table_bundle


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    root = tmp_path_factory.mktemp("image") / "bundle"
    write_image_bundle(root)
    return load_model(root, name="colors", version="7")


@pytest.fixture(scope="session")
def table_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    return load_model(root, name="people", version="3")


@pytest.fixture
def slot(image_model: LoadedModel) -> ModelSlot:
    return ModelSlot(image_model)


@pytest.fixture
def events() -> Iterator[list[MutableMapping[str, object]]]:
    """What is logged."""
    with structlog.testing.capture_logs() as found:
        yield found
