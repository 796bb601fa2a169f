"""The dataset contract: what `manifest.json` says of the shards beside it.

Invariants:
- `dataset_id` is a hash of all that decides the content; two data sets with one id hold the same rows in the same splits.
- A sample's split follows from its content and the seed alone: adding data never moves one, duplicates land together.
- A shard is an Arrow IPC file of one record batch: the feature columns, `label` (int64) and `sample_id` (string).
- Images are fixed-size uint8 rows, height x width x channels; numbers are float32 with NaN for missing; categories are
  strings with null for missing.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from slipway.errors import DatasetCorruptError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
LABEL_COLUMN = "label"
SAMPLE_ID_COLUMN = "sample_id"
PROBABILITIES = "probabilities"
"""What a classifier's answer is called, which no column may be called therefore: a model's inputs and outputs share names."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Role = Literal["image", "numeric", "categorical"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of the task: a column of every shard."""

    name: str
    role: Role
    dtype: Literal["uint8", "float32", "string"]
    shape: tuple[int, ...]
    """Of one sample: (height, width, channels) for an image, () for a table's column."""


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """What the train split says of a feature. Preprocessing is fitted to these and to nothing else."""

    feature: str
    mean: tuple[float, ...] = ()
    """One number a channel (images, in units of 0 to 255) or a single one (numeric); missing values left out."""
    std: tuple[float, ...] = ()
    """Population standard deviation, like `mean`."""
    minimum: float | None = None
    maximum: float | None = None
    num_missing: int = 0
    categories: tuple[str, ...] = ()
    """Values of a categorical feature, sorted."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Arrow file of one split, relative to the manifest."""

    path: str
    split: Split
    num_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of one data set."""

    format_version: int
    dataset_id: str
    task: str
    features: tuple[Feature, ...]
    class_names: tuple[str, ...]
    num_rows: dict[str, int]
    """Rows of each split."""
    shards: tuple[Shard, ...]
    statistics: tuple[FeatureStatistics, ...]
    provenance: dict[str, str]
    """Where the data came from: source URI, content hash, split rule and its seed."""

    def feature(self, name: str) -> Feature:
        """The feature called `name` (KeyError where there is none)."""
        return {feature.name: feature for feature in self.features}[name]

    def statistics_of(self, name: str) -> FeatureStatistics:
        """The train statistics of the feature called `name` (KeyError where there is none)."""
        return {entry.feature: entry for entry in self.statistics}[name]

    def to_json(self) -> dict[str, Any]:
        """The form that is written to `manifest.json`."""
        return asdict(self)


def read_manifest(dataset_dir: Path) -> Manifest:
    """Read and parse `manifest.json`.

    Raises:
        DatasetCorruptError: the file is missing, is not JSON, lacks a field, or has another format version.
    """
    path = dataset_dir / MANIFEST_NAME
    try:
        content = json.loads(path.read_text())
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise DatasetCorruptError(
                f"{path}: format version {version}; this Slipway reads version {FORMAT_VERSION}. Run preprocess again."
            )
        return _parse_manifest(content)
    except FileNotFoundError:
        raise DatasetCorruptError(f"{path} is missing: {dataset_dir} is not a data set, or was not finished.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetCorruptError):
            raise
        raise DatasetCorruptError(f"{path} is damaged ({error!r}). Remove {dataset_dir} and run preprocess again.") from None


def _parse_manifest(content: dict[str, Any]) -> Manifest:
    manifest = _build_manifest(content)
    for split in SPLITS:
        in_shards = sum(shard.num_rows for shard in manifest.shards if shard.split == split)
        if manifest.num_rows[split] != in_shards:
            raise ValueError(f"{manifest.num_rows[split]} rows in {split}, {in_shards} in its shards")
    return manifest


def _build_manifest(content: dict[str, Any]) -> Manifest:
    return Manifest(
        format_version=content["format_version"],
        dataset_id=content["dataset_id"],
        task=content["task"],
        features=tuple(Feature(**{**entry, "shape": tuple(entry["shape"])}) for entry in content["features"]),
        class_names=tuple(content["class_names"]),
        num_rows=dict(content["num_rows"]),
        shards=tuple(Shard(**entry) for entry in content["shards"]),
        statistics=tuple(
            FeatureStatistics(
                **{**entry, "mean": tuple(entry["mean"]), "std": tuple(entry["std"]), "categories": tuple(entry["categories"])}
            )
            for entry in content["statistics"]
        ),
        provenance=dict(content["provenance"]),
    )
