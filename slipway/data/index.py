"""The index of ingested samples: `index.arrow`, one row a sample, written once when the data comes in.

Validation is a question to the index; the split and the choice of rows follow from it; pixels are read again only to be
written into shards.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipway.data.images import DIGEST_BYTES, drop_equal_channels, hash_pixels
from slipway.data.raw import RawData, RawImages, RawTable
from slipway.errors import DataError

IDENTITY_SIDE = 512
"""Large JPEGs are decoded scaled down, to no less than this side, for their content hash: whatever size is then stored."""

_SCHEMA = pa.schema(
    [
        ("where", pa.string()),
        ("origin", pa.string()),
        ("label", pa.int64()),
        ("content", pa.binary(DIGEST_BYTES)),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int32()),
        ("constant", pa.bool_()),
        ("problem", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SampleIndex:
    """What is known of each sample."""

    kind: Literal["images", "table"]
    class_names: tuple[str, ...]
    rows: pa.Table
    """See `_SCHEMA`; `content` is null where `problem` says why the sample cannot be read."""

    @property
    def num_samples(self) -> int:
        """Samples, readable or not."""
        return int(self.rows.num_rows)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """As the source says [samples]."""
        return np.asarray(self.rows["label"].to_numpy())

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """Samples that could be read [samples]."""
        return np.asarray(self.rows["content"].is_valid().to_numpy())

    @cached_property
    def in_range(self) -> NDArray[np.bool_]:
        """Samples whose label is one of the classes [samples]."""
        return (self.labels >= 0) & (self.labels < len(self.class_names))

    @cached_property
    def from_test(self) -> NDArray[np.bool_]:
        """Samples that the publisher put into the test set [samples]."""
        return np.asarray(pa.compute.equal(self.rows["origin"], "test").to_numpy())

    @cached_property
    def content_groups(self) -> NDArray[np.int64]:
        """Equal numbers for equal content [samples]; -1 where unreadable."""
        codes = self.rows["content"].combine_chunks().dictionary_encode().indices
        return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False)).astype(np.int64)

    @cached_property
    def contents(self) -> list[bytes | None]:
        """Content hashes; None where unreadable."""
        values: list[bytes | None] = self.rows["content"].to_pylist()
        return values

    def where(self, row: int) -> str:
        """File and item of a sample."""
        return str(self.rows["where"][row].as_py())


def decoded_side(height: int, width: int) -> int:
    """The side below which large JPEGs are not scaled down while they are decoded, for images that are stored at this size."""
    return max(IDENTITY_SIDE, 2 * max(height, width))


def build_index(raw: RawData) -> SampleIndex:
    """Read every sample once."""
    if isinstance(raw, RawTable):
        return _index_table(raw)
    return _index_images(raw)


def write_index(path: Path, index: SampleIndex) -> None:
    """Write the index as an Arrow file."""
    described = json.dumps({"kind": index.kind, "class_names": index.class_names})
    rows = index.rows.replace_schema_metadata({"slipway": described})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def read_index(path: Path) -> SampleIndex:
    """Read what `write_index` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    remedy = "Run ingest again."
    try:
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
            rows = reader.read_all()
        described = json.loads(rows.schema.metadata[b"slipway"])
        return SampleIndex(kind=described["kind"], class_names=tuple(described["class_names"]), rows=rows)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {remedy}") from None
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}). {remedy}") from None


def _index_images(raw: RawImages) -> SampleIndex:
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for image in raw.read(IDENTITY_SIDE):
        pixels = image.pixels
        columns["where"].append(image.where)
        columns["origin"].append(image.origin)
        columns["label"].append(image.label)
        columns["problem"].append(image.problem)
        if pixels is None:
            for name in ("content", "height", "width", "channels", "constant"):
                columns[name].append(None)
            continue
        canonical = drop_equal_channels(pixels)
        columns["content"].append(hash_pixels(canonical))
        for name, size in zip(("height", "width", "channels"), canonical.shape, strict=True):
            columns[name].append(size)
        columns["constant"].append(bool((canonical == canonical[0, 0]).all()))
    return SampleIndex(kind="images", class_names=raw.class_names, rows=_to_table(columns))


def _index_table(raw: RawTable) -> SampleIndex:
    num_rows = len(raw.labels)
    content = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), num_rows, [None, pa.py_buffer(np.ascontiguousarray(raw.content))]
    )
    columns: dict[str, Sequence[object]] = {
        "where": [f"{raw.file} row {row + 1}" for row in range(num_rows)],
        "origin": [""] * num_rows,
        "label": raw.labels.tolist(),
        "content": content,
        "height": pa.nulls(num_rows, pa.int32()),
        "width": pa.nulls(num_rows, pa.int32()),
        "channels": pa.nulls(num_rows, pa.int32()),
        "constant": pa.nulls(num_rows, pa.bool_()),
        "problem": [""] * num_rows,
    }
    return SampleIndex(kind="table", class_names=raw.class_names, rows=_to_table(columns))


def _to_table(columns: dict[str, list[object]] | dict[str, Sequence[object]]) -> pa.Table:
    return pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in _SCHEMA], schema=_SCHEMA)
