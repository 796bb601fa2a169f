"""Reading a canonical data set: memory-mapped, zero-copy, each shard's hash checked once per process."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipway.data.manifest import LABEL_COLUMN, SAMPLE_ID_COLUMN, Manifest, Shard, Split, read_manifest
from slipway.errors import DatasetCorruptError
from slipway.storage.files import hash_file

Column = NDArray[Any]


class Dataset:
    """A canonical data set on local disk."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @classmethod
    def open(cls, root: Path) -> "Dataset":
        """Open the data set at `root`; raises DatasetCorruptError where its manifest cannot be used."""
        return cls(root, read_manifest(root))

    def num_rows(self, split: Split) -> int:
        """Samples in `split`."""
        return self.manifest.num_rows[split]

    def spread_rows(self, split: Split, limit: int) -> NDArray[np.int64]:
        """Rows spread evenly over `split`, the first and the last among them: at most `limit`, all where there are no more."""
        num_rows = self.num_rows(split)
        return np.unique(np.linspace(0, num_rows - 1, min(num_rows, limit)).astype(np.int64))

    def read_parts(self, split: Split, column: str) -> list[Column]:
        """The column of `split`, one array a shard, in row order.

        Images come as read-only uint8 views [rows, height, width, channels] of the mapped file, without a copy; numbers as
        float32 [rows]; categories as object arrays of str or None [rows]; `label` as int64; `sample_id` as str objects.

        Raises:
            DatasetCorruptError: a shard is missing, truncated or altered.
        """
        shards = [shard for shard in self.manifest.shards if shard.split == split]
        return [self._read(shard, column) for shard in shards]

    def read_column(self, split: Split, column: str) -> Column:
        """The column of `split` as one array; see `read_parts`. Copies only where there are several shards."""
        parts = self.read_parts(split, column)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Class indices [rows]."""
        return self.read_column(split, LABEL_COLUMN)

    def sample_ids(self, split: Split) -> list[str]:
        """Content hashes, one a sample: the same sample has the same id in every data set."""
        return [str(value) for value in self.read_column(split, SAMPLE_ID_COLUMN)]

    def _read(self, shard: Shard, column: str) -> Column:
        batch = _open_shard(self.root / shard.path, shard)
        values = batch.column(column)
        if pa.types.is_fixed_size_list(values.type):
            images: Column = _view(values.flatten()).reshape(shard.num_rows, *self.manifest.feature(column).shape)
            return images
        if pa.types.is_string(values.type):
            return np.array(values.to_pylist(), dtype=object)
        return _view(values)


def _view(values: pa.Array) -> Column:
    """The numbers without a copy. Arrow's own `to_numpy` would import pandas, which takes longer than a small data set."""
    numbers: Column = np.from_dlpack(values)
    return numbers


@lru_cache(maxsize=256)
def _open_shard(path: Path, shard: Shard) -> pa.RecordBatch:
    remedy = "Remove the data set and run preprocess again."
    if not path.is_file():
        raise DatasetCorruptError(f"{path} is missing. {remedy}")
    size = path.stat().st_size
    if size != shard.size_bytes:
        raise DatasetCorruptError(f"{path} has {size} bytes where the manifest says {shard.size_bytes}. {remedy}")
    if hash_file(path) != shard.sha256:
        raise DatasetCorruptError(f"{path} does not have the hash that the manifest says: it was altered. {remedy}")
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.num_record_batches != 1:
        raise DatasetCorruptError(f"{path} holds {reader.num_record_batches} record batches; a shard is one. {remedy}")
    batch = reader.get_batch(0)
    if batch.num_rows != shard.num_rows:
        raise DatasetCorruptError(f"{path} holds {batch.num_rows} rows where the manifest says {shard.num_rows}. {remedy}")
    return batch
