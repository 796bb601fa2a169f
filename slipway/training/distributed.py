"""The processes that train together. With one process every operation here is the identity, and the trainer does not ask."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from slipway.errors import ConfigError
from slipway.settings import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process's place among those that train, and what they do together."""

    rank: int
    size: int
    restart_count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, network: nn.Module, *, static_graph: bool) -> nn.Module:
        """The network with its gradients averaged over the processes.

        Buffers (batch normalisation's running statistics) stay each process's own while training; see `average_buffers`.
        """
        if self.size == 1:
            return network
        return DistributedDataParallel(
            network,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=static_graph,
        )

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def average_buffers(self, network: nn.Module) -> None:
        """Give every process the mean of their running statistics, so that all evaluate and save the same model."""
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer.div_(self.size)

    def collect(self, array: NDArray[Any]) -> NDArray[Any]:
        """The processes' arrays one after another, by rank, on every process."""
        if self.size == 1:
            return array
        arrays: list[NDArray[Any]] = [np.empty(0)] * self.size
        dist.all_gather_object(arrays, array)
        return np.concatenate(arrays)

    def share(self, content: bytes | None) -> bytes | None:
        """The main process's `content`, on every process."""
        if self.size == 1:
            return content
        holder = [content]
        dist.broadcast_object_list(holder, src=0, device=self.device)
        return holder[0]

    def wait_for_all(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_workers(group: ProcessGroup, num_gpus: int) -> Iterator[Workers]:
    """Meet the other processes: over NCCL on GPUs, over gloo on CPUs.

    Raises:
        ConfigError: GPUs were asked for and are not there.
    """
    device = _choose_device(group, num_gpus)
    if group.world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None)
    try:
        yield Workers(rank=group.rank, size=group.world_size, restart_count=group.restart_count, device=device)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _choose_device(group: ProcessGroup, num_gpus: int) -> torch.device:
    if num_gpus == 0:
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    needed = max(num_gpus, group.local_world_size)  # all nodes' processes may run on this machine
    if visible < needed:  # asked by every process alike: one that goes on alone would wait for the others
        here = f" and {needed} processes are to share this machine" if needed > num_gpus else ""
        raise ConfigError(
            f"train.num_gpus is {num_gpus}{here}, but PyTorch sees {visible} GPU(s) on this machine. "
            "Set train.num_gpus to what there is, or 0 to train on the CPU."
        )
    device = torch.device("cuda", group.local_rank)
    torch.cuda.set_device(device)
    return device
