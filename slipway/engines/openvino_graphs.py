"""A network as OpenVINO computes it: compiled for batches of the sizes that are worth it, and fed."""

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.export.precision import Precision

if TYPE_CHECKING:
    import openvino

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches that an int8 network is compiled for: at a fixed size it is 20 to 40 % faster than at any size."""
MAX_BATCH_BYTES = 2 << 20
"""Of the inputs of such a batch. Each size has weights and buffers of its own: 16 images of 224 px would take 90 MiB for 3 %."""


class Graphs:
    """One network, compiled for batches of one and, when larger ones come, for those."""

    def __init__(self, core: "openvino.Core", network: "openvino.Model", *, precision: Precision, num_threads: int) -> None:
        self._core = core
        self._network = network
        self._options = {
            # OpenVINO would take bf16 by itself where the processor has it.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": num_threads,
            # A pinned thread waits for its core where several processes share the machine.
            "ENABLE_CPU_PINNING": False,
        }
        self._lock = threading.Lock()
        self.batch_sizes = _choose_batch_sizes(network, precision)
        """See `Engine.batch_sizes`."""
        self._sizes = self.batch_sizes if precision == "int8" else self.batch_sizes[:1]
        self._takes_any_size = precision != "int8" or not self._sizes
        self._compiled: dict[int, _FixedBatch] = {}
        self._any_batch: _AnyBatch | None = None
        if self._sizes:
            self._compiled[1] = _FixedBatch(self._compile(1))
        else:
            self._any_batch = _AnyBatch(self._compile(-1))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs for prepared inputs of any number of samples; what is compiled for fixed batches takes them in pieces."""
        num_samples = len(next(iter(inputs.values())))
        with self._lock:
            if num_samples in self._sizes:
                return self._fixed_batch(num_samples).infer(inputs)
            if self._takes_any_size:
                self._any_batch = self._any_batch or _AnyBatch(self._compile(-1))
                return self._any_batch.infer(inputs)
            parts = []
            start = 0
            while start < num_samples:
                size = max(size for size in self._sizes if size <= num_samples - start)
                parts.append(self._fixed_batch(size).infer({name: array[start : start + size] for name, array in inputs.items()}))
                start += size
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def prepare_batch(self, size: int) -> None:
        """Compile what a batch of this size needs, while others are predicted."""
        if size in self._sizes:
            if size not in self._compiled:
                compiled = _FixedBatch(self._compile(size))
                with self._lock:
                    self._compiled.setdefault(size, compiled)
        elif self._takes_any_size and self._any_batch is None:
            any_batch = _AnyBatch(self._compile(-1))
            with self._lock:
                self._any_batch = self._any_batch or any_batch

    def _fixed_batch(self, size: int) -> "_FixedBatch":
        if size not in self._compiled:
            self._compiled[size] = _FixedBatch(self._compile(size))
        return self._compiled[size]

    def _compile(self, batch: int) -> "openvino.CompiledModel":
        network = self._network.clone()
        network.reshape({entry.get_any_name(): [batch, *list(entry.partial_shape)[1:]] for entry in network.inputs})
        return self._core.compile_model(network, "CPU", self._options)


class _FixedBatch:
    """A network for batches of one size, with buffers of its own: what OpenVINO's Python face does for each call is left out."""

    def __init__(self, compiled: "openvino.CompiledModel") -> None:
        self._request = compiled.create_infer_request()
        self._inputs = {entry.get_any_name(): self._request.get_tensor(entry).data for entry in compiled.inputs}
        self._outputs = {entry.get_any_name(): self._request.get_tensor(entry).data for entry in compiled.outputs}

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        for name, buffer in self._inputs.items():
            buffer[...] = inputs[name]
        self._request.infer(share_outputs=True)
        return {name: buffer.copy() for name, buffer in self._outputs.items()}


class _AnyBatch:
    """A network for batches of every size."""

    def __init__(self, compiled: "openvino.CompiledModel") -> None:
        self._request = compiled.create_infer_request()
        self._outputs = [entry.get_any_name() for entry in compiled.outputs]

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}


def _choose_batch_sizes(network: "openvino.Model", precision: Precision) -> tuple[int, ...]:
    """Those of `BATCH_SIZES` that are worth their memory; none for a network that takes samples of any size."""
    samples = [list(entry.partial_shape)[1:] for entry in network.inputs]
    if any(dimension.is_dynamic for shape in samples for dimension in shape):
        return ()
    if precision != "int8":
        return BATCH_SIZES  # one graph for all of them
    sample_bytes = sum(
        entry.element_type.size * math.prod(dimension.get_length() for dimension in shape)
        for entry, shape in zip(network.inputs, samples, strict=True)
    )
    return tuple(size for size in BATCH_SIZES if size == 1 or size * sample_bytes <= MAX_BATCH_BYTES)
