"""Bundles that engines are opened on."""

import pytest

from slipway.export.bundle import Bundle, read_bundle
from tests.bundles import write_table_bundle
from tests.int8_bundle import write_conv_bundle


@pytest.fixture(scope="session")
def conv_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In fp32 and int8, of which int8 is the default."""
    return write_conv_bundle(tmp_path_factory.mktemp("engines") / "bundle")


@pytest.fixture
def text_bundle(tmp_path) -> Bundle:
    """Takes a column of strings."""
    write_table_bundle(tmp_path / "table")
    return read_bundle(tmp_path / "table")
