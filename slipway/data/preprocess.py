"""From ingested data to the canonical data set."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipway.config import DataConfig
from slipway.data.images import NUM_COLOR_CHANNELS, fit_image, hash_pixels
from slipway.data.index import IDENTITY_SIDE, SampleIndex, decoded_side, read_index
from slipway.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Feature,
    FeatureStatistics,
    Manifest,
    Shard,
    Split,
)
from slipway.data.provenance import FILES_NAME, INDEX_NAME, Provenance, read_provenance
from slipway.data.raw import RawData, RawImages, RawTable
from slipway.data.shards import SHARD_BYTES, ImageShardWriter, write_table_shards
from slipway.data.sources.registry import parse_source
from slipway.data.splits import LEFT_OUT, Selection, select_samples
from slipway.data.statistics import describe_column, describe_images
from slipway.errors import DataError
from slipway.storage.files import hash_json, staged_directory, write_json

IMAGE_TASK = "image-classification"
TABLE_TASK = "tabular-classification"
IMAGE_FEATURE = "image"
_MAX_SIDE_KEPT = 64
_DEFAULT_SIDE = 224


def build_dataset(raw_dir: Path, dataset_dir: Path, config: DataConfig, *, shard_bytes: int = SHARD_BYTES) -> Manifest:
    """Write the data set of what `ingest_source` put into `raw_dir`, replacing what was at `dataset_dir`.

    The same input gives the same bytes. Of images, at most one shard a split is in memory at a time.

    Raises:
        DataError: the samples cannot be split as `config` asks, or the copies are not what the index says.
    """
    provenance = read_provenance(raw_dir)
    index = read_index(raw_dir / INDEX_NAME)
    selection = select_samples(index, config)
    raw = open_raw(raw_dir, provenance)
    with staged_directory(dataset_dir) as staging:
        if isinstance(raw, RawTable):
            written = _write_table(staging, raw, index, selection, shard_bytes)
        else:
            written = _write_images(staging, raw, index, selection, _image_feature(index, selection, config), shard_bytes)
        manifest = replace(
            written,
            dataset_id=_identify(written, index, selection),
            provenance=_describe_origin(provenance, selection, config),
        )
        write_json(staging / MANIFEST_NAME, manifest.to_json())
    return manifest


def open_raw(raw_dir: Path, provenance: Provenance) -> RawData:
    """A reader of ingested data."""
    uri, reader = parse_source(provenance.source)
    return reader.open_copy(uri, raw_dir / FILES_NAME)


def sample_id(index: SampleIndex, row: int) -> str:
    """32 hex digits: what an image shows; what a table's row says, its class included."""
    content = index.contents[row]
    if content is None:
        raise DataError(f"{index.where(row)} cannot be read.")
    if index.kind == "images":
        return content.hex()
    return hashlib.sha256(content + index.class_names[index.labels[row]].encode()).hexdigest()[:32]


def _image_feature(index: SampleIndex, selection: Selection, config: DataConfig) -> Feature:
    rows = index.rows.filter(selection.splits != LEFT_OUT)
    heights, widths, channels = (rows[name].to_numpy() for name in ("height", "width", "channels"))
    num_channels = NUM_COLOR_CHANNELS if channels.max() == NUM_COLOR_CHANNELS else 1
    side = config.image_size
    if not side:
        of_one_size = heights.min() == heights.max() and widths.min() == widths.max()
        if of_one_size and max(heights[0], widths[0]) <= _MAX_SIDE_KEPT:
            shape = (int(heights[0]), int(widths[0]), num_channels)
            return Feature(name=IMAGE_FEATURE, role="image", dtype="uint8", shape=shape)
        side = _DEFAULT_SIDE
    return Feature(name=IMAGE_FEATURE, role="image", dtype="uint8", shape=(side, side, num_channels))


def _write_images(
    dataset_dir: Path, raw: RawImages, index: SampleIndex, selection: Selection, feature: Feature, shard_bytes: int
) -> Manifest:
    height, width, channels = feature.shape
    writers = [ImageShardWriter(dataset_dir, split, feature.name, feature.shape, shard_bytes) for split in SPLITS]
    min_side = decoded_side(height, width)
    num_read = 0
    for row, image in enumerate(raw.read(min_side)):
        num_read += 1
        if row >= index.num_samples or image.where != index.where(row):
            raise _changed(image.where)
        split = selection.splits[row]
        if split == LEFT_OUT:
            continue
        if image.pixels is None or (min_side == IDENTITY_SIDE and hash_pixels(image.pixels) != index.contents[row]):
            raise _changed(image.where)
        writers[split].append(fit_image(image.pixels, height, width, channels), image.label, sample_id(index, row))
    if num_read != index.num_samples:
        raise _changed(index.where(num_read))
    for writer in writers:
        writer.flush()
    shards = tuple(shard for writer in writers for shard in writer.shards)
    statistics = (describe_images(feature.name, writers[0].histogram),)
    return _describe(IMAGE_TASK, (feature,), index, selection, shards, statistics)


def _write_table(dataset_dir: Path, raw: RawTable, index: SampleIndex, selection: Selection, shard_bytes: int) -> Manifest:
    if raw.content.tobytes() != b"".join(content or b"" for content in index.contents):
        raise _changed(raw.file)
    _require_finite(raw)
    shards: list[Shard] = []
    for split in SPLITS:
        rows = selection.rows(split)
        columns = raw.columns.take(rows)
        ids = [sample_id(index, int(row)) for row in rows]
        shards += write_table_shards(dataset_dir, split, columns, raw.labels[rows], ids, shard_bytes)
    train = raw.columns.take(selection.rows("train"))
    statistics = tuple(describe_column(feature, train[feature.name]) for feature in raw.features)
    return _describe(TABLE_TASK, raw.features, index, selection, tuple(shards), statistics)


def _require_finite(raw: RawTable) -> None:
    for feature in raw.features:
        if feature.role == "numeric" and (infinite := np.isinf(raw.columns[feature.name].to_numpy())).any():
            raise DataError(
                f"{raw.file} row {int(infinite.argmax()) + 1}, column {feature.name!r}: the number is infinite or too large for "
                f"32-bit floats ({int(infinite.sum())} such rows). Correct it, or empty the cell: empty means missing."
            )


def _changed(where: str) -> DataError:
    return DataError(f"{where}: the ingested copy is not what it was when it was ingested. Run ingest again.")


def _describe(
    task: str,
    features: tuple[Feature, ...],
    index: SampleIndex,
    selection: Selection,
    shards: tuple[Shard, ...],
    statistics: tuple[FeatureStatistics, ...],
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        dataset_id="",
        task=task,
        features=features,
        class_names=index.class_names,
        num_rows={split: len(selection.rows(split)) for split in SPLITS},
        shards=shards,
        statistics=statistics,
        provenance={},
    )


def _identify(manifest: Manifest, index: SampleIndex, selection: Selection) -> str:
    rows: dict[Split, str] = {}
    for split in SPLITS:
        digest = hashlib.sha256()
        for row in selection.rows(split):
            digest.update(f"{sample_id(index, int(row))} {index.labels[row]}\n".encode())
        rows[split] = digest.hexdigest()
    features = [[feature.name, feature.role, feature.dtype, list(feature.shape)] for feature in manifest.features]
    return hash_json([manifest.format_version, manifest.task, features, list(manifest.class_names), rows])[:32]


def _describe_origin(provenance: Provenance, selection: Selection, config: DataConfig) -> dict[str, str]:
    return {
        "source": provenance.source,
        "content_hash": provenance.content_hash,
        "split_by": selection.split_by,
        "seed": str(config.seed),
        "validation_fraction": str(config.validation_fraction),
        "test_fraction": str(config.test_fraction),
        **{f"left_out_{reason}": str(count) for reason, count in selection.left_out.items()},
    }
