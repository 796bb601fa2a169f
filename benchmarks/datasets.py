"""What both sides read: the same images, as a folder of files for the baseline and as a canonical data set for Slipway.

They are made once and kept beside Slipway's other state.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.images import PATTERNS, render_texture
from slipway.config import DataConfig
from slipway.cores import count_cores
from slipway.data.dataset import Dataset
from slipway.data.ingest import ingest_source
from slipway.data.manifest import SPLITS
from slipway.data.preprocess import IMAGE_FEATURE, build_dataset
from slipway.settings import load_settings
from slipway.storage.files import staged_directory

_FORMAT = 1
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Textures:
    """A set of rendered images: how many files a class, of which size."""

    name: str
    height: int
    width: int
    train_per_class: int
    test_per_class: int
    suffix: str

    @property
    def folder(self) -> Path:
        """`files`, `dataset` and `splits` stand in it."""
        return load_settings().home / "bench" / f"{self.name}-{_FORMAT}"

    @property
    def files(self) -> Path:
        """The rendered images: train/CLASS/*.png."""
        return self.folder / "files"

    @property
    def dataset_dir(self) -> Path:
        """Slipway's canonical form of them."""
        return self.folder / "dataset"

    @property
    def splits(self) -> Path:
        """The canonical splits as files again, for a baseline that is to see the same samples: train, validation, test."""
        return self.folder / "splits"


SMALL = Textures(name="textures-32", height=32, width=32, train_per_class=800, test_per_class=200, suffix=".png")
FEW = Textures(name="textures-32-few", height=32, width=32, train_per_class=240, test_per_class=200, suffix=".png")
LARGE = Textures(name="textures-500", height=375, width=500, train_per_class=160, test_per_class=10, suffix=".jpg")


def prepare(textures: Textures) -> Textures:
    """Render, ingest and preprocess what is not there yet."""
    if not textures.files.exists():
        with staged_directory(textures.files) as staging:
            _render(textures, staging)
    if not textures.dataset_dir.exists():
        source = f"folder://{textures.files}"
        raw = textures.folder / "raw"
        ingest_source(source, raw)
        build_dataset(raw, textures.dataset_dir, DataConfig(source=source))
    return textures


def prepare_splits(textures: Textures) -> Textures:
    """`prepare`, and the canonical splits as PNG files."""
    prepare(textures)
    if not textures.splits.exists():
        dataset = Dataset.open(textures.dataset_dir)
        with staged_directory(textures.splits) as staging:
            for split in SPLITS:
                images, labels = dataset.read_column(split, IMAGE_FEATURE), dataset.labels(split)
                for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                    folder = staging / split / dataset.manifest.class_names[label]
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(np.array(image)).save(folder / f"{number:05d}.png")
    return textures


def _render(textures: Textures, folder: Path) -> None:
    tasks = [
        (split, pattern, number)
        for split, count in (("train", textures.train_per_class), ("test", textures.test_per_class))
        for pattern in PATTERNS
        for number in range(count)
    ]
    for split, pattern, _ in tasks:
        (folder / split / pattern).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(count_cores(), mp_context=get_context("spawn")) as pool:
        for _ in pool.map(partial(_render_one, textures, folder), tasks, chunksize=100):
            pass


def _render_one(textures: Textures, folder: Path, task: tuple[str, str, int]) -> None:
    split, pattern, number = task
    seed = [list(PATTERNS).index(pattern), number, int(split == "test")]
    pixels = render_texture(pattern, textures.height, textures.width, np.random.default_rng(seed))
    image = Image.fromarray(pixels)
    image.save(folder / split / pattern / f"{number:05d}{textures.suffix}", quality=_JPEG_QUALITY)
