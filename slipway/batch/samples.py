"""The samples of a shard, read ahead while the model works on those before."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slipway.batch.images import read_images
from slipway.batch.plan import Kind, Plan, Shard
from slipway.batch.rows import read_rows
from slipway.batch.stream import InputFile
from slipway.data.images import Pixels
from slipway.engines.engine import Engine
from slipway.errors import BatchError
from slipway.export.bundle import BundleInfo
from slipway.export.signature import Signature
from slipway.serving.wire.images import ImageReader, find_image_spec, require_image_spec
from slipway.serving.wire.rows import takes_columns
from slipway.storage.objects import ObjectStorage

_MAX_ROWS = 8192
_NUM_CHUNKS_AHEAD = 4
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Samples:
    """Some samples that go to the model together, and some that could not be read."""

    files: NDArray[np.int64]
    """Of each, the place of its file among the plan's."""
    rows: NDArray[np.int64]
    inputs: dict[str, NDArray[Any]]
    errors: list[tuple[int, int, str]]
    """File, row and what is wrong."""


def check_kind(kind: Kind, signature: Signature) -> None:
    """BatchError where a model does not take what the input holds."""
    if kind == "images" and find_image_spec(signature) is None:
        raise BatchError(
            "The input holds images, and the model takes none; accepted: CSV, JSON lines or Parquet with its columns."
        )
    if kind != "images" and not takes_columns(signature):
        raise BatchError("The input holds a table's rows, and the model takes none; accepted: images.")


def read_samples(storage: ObjectStorage, plan: Plan, shard: Shard, engine: Engine, info: BundleInfo) -> Iterator[Samples]:
    """The samples of a shard; images in no order.

    Raises:
        BatchError: a file lacks a column of the model, or has changed since it was planned.
        StorageError: the input cannot be reached.
    """
    if plan.kind == "images":
        return _read_images(storage, plan, shard, engine, info.image_min_side)
    return _read_ahead(_read_rows(storage, plan, shard, info.signature))


def _read_images(storage: ObjectStorage, plan: Plan, shard: Shard, engine: Engine, min_side: int | None) -> Iterator[Samples]:
    spec = require_image_spec(engine.signature)

    def decode(content: bytes) -> Pixels:
        image = ImageReader(spec, min_side=min_side, one_large_at_a_time=False).read(content, "The image")
        prepared: Pixels = engine.prepare({spec.name: image[None]})[spec.name][0]
        return prepared

    files = plan.files[shard.file : shard.file + shard.num_rows]
    for found in read_images(storage, plan.folder, files, decode):
        if isinstance(found, tuple):
            place, reason = found
            yield Samples(np.empty(0, np.int64), np.empty(0, np.int64), {}, [(shard.file + place, 0, reason)])
        else:
            places = shard.file + np.array(found.places, dtype=np.int64)
            yield Samples(places, np.zeros_like(places), {spec.name: found.pixels}, [])


def _read_rows(storage: ObjectStorage, plan: Plan, shard: Shard, signature: Signature) -> Iterator[Samples]:
    file = InputFile(storage, plan.folder, plan.files[shard.file])
    for chunk in read_rows(file, plan.kind, shard, signature, _MAX_ROWS):
        errors = [(shard.file, row, reason) for row, reason in chunk.errors.items()]
        yield Samples(np.full_like(chunk.rows, shard.file), chunk.rows, chunk.inputs, errors)


def _read_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same, made by another thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        ahead = deque(pool.submit(next, items, None) for _ in range(_NUM_CHUNKS_AHEAD))
        while (item := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, items, None))
            yield item
