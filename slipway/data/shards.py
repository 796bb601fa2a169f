"""Writing shards: rows are gathered in memory up to a shard's size, then become one Arrow file of one record batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipway.data.manifest import LABEL_COLUMN, SAMPLE_ID_COLUMN, Shard, Split
from slipway.storage.files import hash_file

SHARD_BYTES = 256 << 20
"""Most bytes of features that a shard holds."""


class ImageShardWriter:
    """Writes the images of one split, in the order they come in."""

    def __init__(self, dataset_dir: Path, split: Split, feature: str, shape: tuple[int, ...], shard_bytes: int) -> None:
        self.shards: list[Shard] = []
        self.histogram = np.zeros((shape[-1], 256), np.int64)
        """How often each value occurs in each channel."""
        self._dataset_dir, self._split, self._feature, self._shape = dataset_dir, split, feature, shape
        self._rows_per_shard = max(1, shard_bytes // int(np.prod(shape)))
        self._clear()

    def append(self, pixels: NDArray[np.uint8], label: int, sample_id: str) -> None:
        """Add one image of the shape that the writer was made for."""
        self._pixels += np.ascontiguousarray(pixels).data.cast("B")
        self._labels.append(label)
        self._sample_ids.append(sample_id)
        if len(self._labels) == self._rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered as a shard."""
        if not self._labels:
            return
        row_bytes = int(np.prod(self._shape))
        images = pa.FixedSizeListArray.from_arrays(
            pa.Array.from_buffers(pa.uint8(), len(self._labels) * row_bytes, [None, pa.py_buffer(self._pixels)]), row_bytes
        )
        self._count_values()
        batch = _to_batch([self._feature], [images], np.array(self._labels, np.int64), self._sample_ids)
        self.shards.append(write_shard(self._dataset_dir, self._split, len(self.shards), batch))
        self._clear()

    def _clear(self) -> None:
        self._pixels = bytearray()
        self._labels: list[int] = []
        self._sample_ids: list[str] = []

    def _count_values(self) -> None:
        channels = self._shape[-1]
        values = np.frombuffer(self._pixels, np.uint8).reshape(-1, channels)
        for start in range(0, len(values), 1 << 20):
            for channel in range(channels):
                self.histogram[channel] += np.bincount(values[start : start + (1 << 20), channel], minlength=256)


def write_table_shards(
    dataset_dir: Path, split: Split, columns: pa.Table, labels: NDArray[np.int64], sample_ids: Sequence[str], shard_bytes: int
) -> list[Shard]:
    """Write the rows of one split."""
    row_bytes = max(1, columns.nbytes // max(1, columns.num_rows))
    step = max(1, shard_bytes // row_bytes)
    shards: list[Shard] = []
    for start in range(0, columns.num_rows, step):
        part = columns.slice(start, step).combine_chunks()
        arrays = [_plain(column) for column in part.columns]
        rows = slice(start, start + step)
        batch = _to_batch(part.column_names, arrays, labels[rows], sample_ids[rows])
        shards.append(write_shard(dataset_dir, split, len(shards), batch))
    return shards


def write_shard(dataset_dir: Path, split: Split, number: int, batch: pa.RecordBatch) -> Shard:
    """Write one Arrow IPC file, uncompressed, so that it can be mapped."""
    name = f"shards/{split}-{number:05d}.arrow"
    path = dataset_dir / name
    path.parent.mkdir(exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Shard(path=name, split=split, num_rows=batch.num_rows, size_bytes=path.stat().st_size, sha256=hash_file(path))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array that starts at its buffers' start, so that equal rows give equal bytes."""
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else pa.concat_arrays([column.chunk(0)])


def _to_batch(
    names: Sequence[str], columns: Sequence[pa.Array], labels: NDArray[np.int64], sample_ids: Sequence[str]
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [*columns, pa.array(labels, pa.int64()), pa.array(sample_ids, pa.string())],
        names=[*names, LABEL_COLUMN, SAMPLE_ID_COLUMN],
    )
