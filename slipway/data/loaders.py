"""Batches, gathered whole from mapped arrays: one copy a batch and shard, never a loop over samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slipway.errors import DataError

_RESIDENT_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class SplitData:
    """One split as arrays, in row order."""

    inputs: Mapping[str, Sequence[NDArray[Any]]]
    """For each input its parts, one a shard: first axis the sample; uint8, int64 or float32; read-only and mapped, or not."""
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, parts in self.inputs.items():
            num_rows = sum(len(part) for part in parts)
            if num_rows != len(self.targets):
                raise DataError(f"input {name!r} has {num_rows} rows where the split has {len(self.targets)} targets.")

    @property
    def num_rows(self) -> int:
        """Samples in the split."""
        return len(self.targets)

    @property
    def size_bytes(self) -> int:
        """Of all inputs."""
        return sum(part.nbytes for parts in self.inputs.values() for part in parts)


class BatchSource(Protocol):
    """Where a split's batches come from."""

    def gather(self, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
        """The raw inputs by name and the targets of some rows, which must ascend, on the source's device."""


def open_batches(split: SplitData, device: torch.device) -> BatchSource:
    """Batches on `device`: from GPU memory where the whole split takes a quarter of what is free, else from the mapped files."""
    if device.type == "cuda" and split.size_bytes <= _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return ResidentBatches(split, device)
    return MappedBatches(split, device)


class MappedBatches:
    """Batches copied out of host memory or mapped files."""

    def __init__(self, split: SplitData, device: torch.device) -> None:
        self._columns = {name: _Column(parts) for name, parts in split.inputs.items()}
        self._targets = split.targets
        self._device = device

    def gather(self, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
        """See `BatchSource`."""
        pinned = self._device.type == "cuda"
        batch = {name: column.take(rows, pinned=pinned) for name, column in self._columns.items()}
        targets = torch.from_numpy(self._targets[rows])
        if not pinned:
            return batch, targets
        return {name: self._move(tensor) for name, tensor in batch.items()}, self._move(targets)

    def _move(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


class ResidentBatches:
    """Batches selected on the device that holds the whole split."""

    def __init__(self, split: SplitData, device: torch.device) -> None:
        everything = np.arange(split.num_rows)
        host = MappedBatches(split, torch.device("cpu"))
        inputs, targets = host.gather(everything)
        self._inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        self._targets = targets.to(device)
        self._device = device

    def gather(self, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
        """See `BatchSource`."""
        index = torch.from_numpy(rows).to(self._device, non_blocking=True)
        return {name: tensor.index_select(0, index) for name, tensor in self._inputs.items()}, self._targets[index]


class _Column:
    """One input over its shards."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = list(parts)
        self._bounds = np.cumsum([0, *(len(part) for part in parts)])

    def take(self, rows: NDArray[np.int64], *, pinned: bool) -> Tensor:
        first = self._parts[0]
        dtype = torch.from_numpy(np.empty(0, dtype=first.dtype)).dtype
        batch = torch.empty((len(rows), *first.shape[1:]), dtype=dtype, pin_memory=pinned)
        target = batch.numpy()
        cuts = np.searchsorted(rows, self._bounds)
        for index, part in enumerate(self._parts):
            start, stop = cuts[index], cuts[index + 1]
            if start < stop:
                # Any mode but "raise" writes into `out` directly; the rows are in range by construction.
                np.take(part, rows[start:stop] - self._bounds[index], axis=0, out=target[start:stop], mode="clip")
        return batch
