"""The samples of a shard, read ahead by threads while the model works on those before."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.batch.inputs import local_copy
from slipway.batch.plan import Kind, Piece, Shard
from slipway.batch.rows import read_rows
from slipway.data.images import Pixels
from slipway.errors import BatchError, RequestError, StorageError
from slipway.export.bundle import BundleInfo
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.images import ImageReader, find_image_spec, require_image_spec
from slipway.serving.wire.rows import takes_columns
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

_MAX_IMAGES = 64
_MAX_IMAGE_BYTES = 64 << 20
_MAX_ROWS = 2048
_MAX_AHEAD = 128
_MAX_THREADS = 8


@dataclass(frozen=True)
class Samples:
    """Some samples that go to the model together, in the input's order, and those among them that could not be read."""

    places: list[tuple[str, int]]
    """File and row of each."""
    inputs: dict[str, NDArray[Any]]
    errors: list[tuple[str, int, str]]
    """File, row and what is wrong."""


def check_kind(kind: Kind, signature: Signature) -> None:
    """BatchError where a model does not take what the input holds."""
    if kind == "images" and find_image_spec(signature) is None:
        raise BatchError(
            "The input holds images, and the model takes none; accepted: CSV, JSON lines or Parquet with its columns."
        )
    if kind != "images" and not takes_columns(signature):
        raise BatchError("The input holds a table's rows, and the model takes none; accepted: images.")


def read_samples(storage: ObjectStorage, folder: str, kind: Kind, shard: Shard, info: BundleInfo) -> Iterator[Samples]:
    """The samples of a shard.

    Raises:
        BatchError: a file lacks a column of the model.
        StorageError: the input cannot be reached.
    """
    if kind == "images":
        spec = require_image_spec(info.signature)
        yield from _group_images(_decode_ahead(storage, folder, shard.pieces, spec, info.image_min_side), spec)
        return
    for piece in shard.pieces:
        with local_copy(storage, folder, piece.file) as path:
            for chunk in read_rows(path, kind, piece, info.signature, _MAX_ROWS):
                yield Samples(
                    places=[(piece.file, row) for row in chunk.rows.tolist()],
                    inputs=chunk.inputs,
                    errors=[(piece.file, row, reason) for row, reason in chunk.errors.items()],
                )


def _group_images(decoded: Iterator[tuple[str, Pixels | str]], spec: TensorSpec) -> Iterator[Samples]:
    """Images of one size together, as many as go to the model at once."""
    waiting: dict[tuple[int, ...], list[tuple[str, Pixels]]] = {}
    num_bytes: dict[tuple[int, ...], int] = {}
    for name, found in decoded:
        if isinstance(found, str):
            yield Samples([], {}, [(name, 0, found)])
            continue
        group = waiting.setdefault(found.shape, [])
        group.append((name, found))
        num_bytes[found.shape] = num_bytes.get(found.shape, 0) + found.nbytes
        if len(group) == _MAX_IMAGES or sum(num_bytes.values()) >= _MAX_IMAGE_BYTES:
            largest = max(num_bytes, key=lambda shape: num_bytes[shape])
            full = found.shape if len(group) == _MAX_IMAGES else largest
            num_bytes.pop(full)
            yield _to_samples(waiting.pop(full), spec)
    for group in waiting.values():
        yield _to_samples(group, spec)


def _to_samples(group: list[tuple[str, Pixels]], spec: TensorSpec) -> Samples:
    return Samples([(name, 0) for name, _ in group], {spec.name: np.stack([pixels for _, pixels in group])}, [])


def _decode_ahead(
    storage: ObjectStorage, folder: str, pieces: tuple[Piece, ...], spec: TensorSpec, min_side: int | None
) -> Iterator[tuple[str, Pixels | str]]:
    def decode(name: str) -> tuple[str, Pixels | str]:
        try:
            return name, ImageReader(spec, min_side=min_side).read(storage.read_bytes(join_uri(folder, name)), "The image")
        except RequestError as error:
            return name, str(error)
        except OSError as error:
            raise StorageError(f"{join_uri(folder, name)} cannot be read ({error.strerror}).") from None

    num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
    names = iter([piece.file for piece in pieces])
    num_ahead = num_threads
    with ThreadPoolExecutor(num_threads, thread_name_prefix="decode") as pool:
        ahead: deque[Future[tuple[str, Pixels | str]]] = deque(pool.submit(decode, name) for name in islice(names, num_ahead))
        try:
            while ahead:
                name, found = ahead.popleft().result()
                if not isinstance(found, str):  # the next ones are taken to be as large
                    num_ahead = max(num_threads, min(_MAX_AHEAD, _MAX_IMAGE_BYTES // found.nbytes))
                ahead.extend(pool.submit(decode, name) for name in islice(names, max(num_ahead - len(ahead), 0)))
                yield name, found
        finally:
            for future in ahead:
                future.cancel()
