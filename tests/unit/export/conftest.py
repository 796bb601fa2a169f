"""Data sets whose models are exported."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slipway.config import DataConfig
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _prepare(tmp_path_factory.mktemp("digits"), "sklearn://digits")


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Numbers and categories, both with missing values; column names as people write them."""
    root = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    with (root / "people.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Age (years)", "height/cm", "favourite color", "outcome"])
        for index in range(300):
            age = "" if index % 7 == 0 else f"{random.normal(40, 10):.2f}"
            color = "" if index % 11 == 0 else ("red", "blue", "grün")[index % 3]
            writer.writerow([age, f"{random.normal(170, 10):.2f}", color, "yes" if index % 3 else "no"])
    return _prepare(root, f"csv://{root / 'people.csv'}?target=outcome")


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[str], Dataset]:
    """The data set of a source."""
    return lambda source: _prepare(tmp_path, source)


def _prepare(root: Path, source: str) -> Dataset:
    config = DataConfig(source=source)
    ingest_source(source, root / "raw")
    build_dataset(root / "raw", root / "dataset", config)
    return Dataset.open(root / "dataset")
