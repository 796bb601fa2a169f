"""Bundles and inputs that the tests of batch prediction share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundles import write_digit_bundle, write_image_bundle, write_table_bundle


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("table") / "bundle"
    write_table_bundle(root)
    return root


@pytest.fixture(scope="session")
def digit_bundle(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("digit") / "bundle"
    write_digit_bundle(root)
    return root


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("image") / "bundle"
    write_image_bundle(root)
    return root


@pytest.fixture
def images(tmp_path) -> Path:
    """Eleven photographs of several formats and sizes, in folders."""
    folder = tmp_path / "images"
    generator = np.random.default_rng(0)
    for number in range(11):
        path = folder / f"{'ab'[number % 2]}" / f"{number:02d}.{('png', 'jpg', 'webp')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 8 + number % 4
        Image.fromarray(generator.integers(0, 256, (side, side + 2, 3), dtype=np.uint8)).save(path)
    return folder
