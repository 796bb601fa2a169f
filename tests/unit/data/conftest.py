"""Writers of small sources in the formats that Slipway reads."""

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[..., Path]:
    """Write the IDX files of one part of an MNIST-like source."""

    def write(images: Pixels, labels: list[int], *, part: str = "train", suffix: str = "", separator: str = "-") -> Path:
        folder = tmp_path / "mnist"
        folder.mkdir(exist_ok=True)
        contents = {
            f"{part}-images{separator}idx3-ubyte{suffix}": struct.pack(">4I", 0x803, *images.shape) + images.tobytes(),
            f"{part}-labels{separator}idx1-ubyte{suffix}": struct.pack(">2I", 0x801, len(labels)) + bytes(labels),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(gzip.compress(content, mtime=0) if suffix else content)
        return folder

    return write


@pytest.fixture
def cifar10_files() -> Callable[..., dict[str, bytes]]:
    """The pickles of a small CIFAR-10, by name."""

    def make(per_batch: int = 20, protocol: int = 2) -> dict[str, bytes]:
        generator = np.random.default_rng(0)
        names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
        batches: dict[str, dict[str, object]] = {
            name: {
                "data": generator.integers(0, 256, (per_batch, 3072), dtype=np.uint8),
                "labels": [item % 10 for item in range(per_batch)],
            }
            for name in names
        }
        batches["batches.meta"] = {"label_names": CIFAR_CLASSES}
        return {name: pickle.dumps(content, protocol=protocol) for name, content in batches.items()}

    return make


@pytest.fixture
def pack_cifar10() -> Callable[..., Path]:
    """Pack files into the archive that CIFAR-10 is published as."""

    def pack(folder: Path, files: dict[str, bytes], prefix: str = "cifar-10-batches-py/") -> Path:
        folder.mkdir(exist_ok=True)
        archive = folder / "cifar-10-python.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(prefix + name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return archive

    return pack


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write random PNG images into one folder a class."""

    def write(name: str = "photos", *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 40, size: int = 12) -> Path:
        generator = np.random.default_rng(0)
        for class_name in classes:
            folder = tmp_path / name / class_name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        return tmp_path / name

    return write


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[[str], Path]:
    """Write a CSV file as it stands."""

    def write(text: str) -> Path:
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def random_images() -> Callable[..., Pixels]:
    """Random grey images [count, height, width], a different one each."""

    def make(count: int, height: int = 6, width: int = 5, seed: int = 0) -> Pixels:
        return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)

    return make
