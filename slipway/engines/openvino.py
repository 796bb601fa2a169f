"""OpenVINO on the CPU: the fastest engine for networks of numbers. It knows no strings."""

import importlib
import math
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays, EngineInfo, check_inputs
from slipway.engines.sizes import resize_images
from slipway.errors import BundleError
from slipway.export.precision import Precision
from slipway.export.signature import Signature

if TYPE_CHECKING:
    import openvino

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches that an int8 network is compiled for: at a fixed size it is 20 to 40 % faster than at any size."""
MAX_BATCH_BYTES = 2 << 20
"""Of the inputs of such a batch. Each size has weights and buffers of its own: 16 images of 224 px would take 90 MiB for 3 %."""
_TYPES = {"uint8": "u8", "float32": "f32", "int64": "i64"}
_CONVERTER = "openvino.tools.ovc"


class OpenVinoEngine:
    """A model run by OpenVINO."""

    def __init__(
        self,
        model_path: Path,
        signature: Signature,
        *,
        num_threads: int = 1,
        precision: Precision = "fp32",
        reason: str = "It was asked for.",
    ) -> None:
        """Load and compile the model.

        Args:
            model_path: An ONNX file of a bundle.
            signature: What the bundle says that the model takes and gives.
            num_threads: Threads that one prediction may use.
            precision: "fp32" and "bf16" are what a float network is computed in; "int8" states that the file is quantised.
            reason: Why this engine.

        Raises:
            BundleError: the file is missing, is no model that OpenVINO can load, or has other inputs or outputs than `signature`.
        """
        if not model_path.is_file():
            raise BundleError(f"{model_path} is missing. Export the model again.")
        library = import_openvino()
        self.signature = signature
        self.info = EngineInfo(
            name="openvino",
            version=library.__version__.split("-")[0],
            device="cpu",
            precision=precision,
            num_threads=num_threads,
            reason=reason,
        )
        try:
            core = library.Core()
            model = _read_onnx(model_path)
            _check_signature(model_path, model, signature)
            self._sizes = _take_resize_out(library, model)
            if precision == "int8":
                _simplify(model)
            self.batch_sizes = _choose_batch_sizes(model, precision)
            self._graphs = _Graphs(core, model, self.batch_sizes, precision, num_threads)
        except _reading_errors() as error:
            raise BundleError(
                f"{model_path} is not a model that OpenVINO can load ({_last_line(error)}). Export the model again, or "
                "serve it with the engine onnxruntime."
            ) from None

    def prepare(self, inputs: Arrays) -> Arrays:
        """See `Engine.prepare`."""
        check_inputs(self.signature, inputs)
        if not self._sizes:
            return inputs
        return {
            name: resize_images(array, *self._sizes[name]) if name in self._sizes else array for name, array in inputs.items()
        }

    def prepared_bytes(self, inputs: Arrays) -> int:
        """See `Engine.prepared_bytes`."""
        check_inputs(self.signature, inputs)
        resized = {name: size for name, size in self._sizes.items() if inputs[name].shape[1:3] != size}
        return sum(len(inputs[name]) * inputs[name].shape[3] * math.prod(size) for name, size in resized.items())

    def predict(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.predict`."""
        return self._graphs.run(self.prepare(inputs))

    def warm_up(self, inputs: Arrays, num_predictions: int = 3) -> None:
        """See `Engine.warm_up`."""
        self._graphs.prepare_batch(len(next(iter(inputs.values()))))
        for _ in range(num_predictions):
            self.predict(inputs)


def import_openvino() -> ModuleType:
    """OpenVINO without its converter of models, which at import reports to its maker over the network.

    Raises:
        ImportError: it is not installed, or cannot be loaded on this machine.
    """
    if "openvino" in sys.modules:
        return importlib.import_module("openvino")  # waits for a thread that is at it
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # openvino goes on without it
    try:
        return importlib.import_module("openvino")
    finally:
        sys.modules.pop(_CONVERTER, None)


def _reading_errors() -> tuple[type[Exception], ...]:
    from openvino import frontend

    return (
        RuntimeError,
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    )


def _last_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line), repr(error))


def _read_onnx(path: Path) -> "openvino.Model":
    """Named as ONNX: asked to guess, OpenVINO loads its readers of all formats, and each complains of a damaged file."""
    from openvino.frontend import FrontEndManager

    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(str(path)))


class _Graphs:
    """One network, compiled for batches of one and, when larger ones come, for those."""

    def __init__(
        self, core: "openvino.Core", model: "openvino.Model", sizes: tuple[int, ...], precision: Precision, num_threads: int
    ) -> None:
        self._core = core
        self._model = model
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
        self._sizes = sizes if precision == "int8" else sizes[:1]
        self._takes_any_size = precision != "int8" or not sizes
        self._compiled: dict[int, _FixedBatch] = {}
        self._any_batch: _AnyBatch | None = None
        if sizes:
            self._compiled[1] = _FixedBatch(self._compile(1))
        else:
            self._any_batch = _AnyBatch(self._compile(-1))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs for checked inputs of any number of samples; what is compiled for fixed batches takes them in pieces."""
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
        model = self._model.clone()
        model.reshape({entry.get_any_name(): [batch, *list(entry.partial_shape)[1:]] for entry in model.inputs})
        return self._core.compile_model(model, "CPU", self._options)


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


def _choose_batch_sizes(model: "openvino.Model", precision: Precision) -> tuple[int, ...]:
    """Those of `BATCH_SIZES` that are worth their memory; none for a network that takes samples of any size."""
    samples = [list(entry.partial_shape)[1:] for entry in model.inputs]
    if any(dimension.is_dynamic for shape in samples for dimension in shape):
        return ()
    if precision != "int8":
        return BATCH_SIZES  # one graph for all of them
    sample_bytes = sum(
        entry.element_type.size * math.prod(dimension.get_length() for dimension in shape)
        for entry, shape in zip(model.inputs, samples, strict=True)
    )
    return tuple(size for size in BATCH_SIZES if size == 1 or size * sample_bytes <= MAX_BATCH_BYTES)


def _take_resize_out(library: ModuleType, model: "openvino.Model") -> dict[str, tuple[int, int]]:
    """Let images enter behind the graph's Resize; heights and widths that the network takes, by input.

    OpenVINO leaves the antialiasing out of an ONNX Resize, which changes a pixel by up to 141 of 255. Its own filter that is like
    Pillow's takes 3 to 10 times as long as Pillow.
    """
    from openvino import op

    sizes: dict[str, tuple[int, int]] = {}
    for resize in [node for node in model.get_ordered_ops() if node.get_type_name() == "Interpolate"]:
        entry = resize.input_value(0).get_node()
        if entry.get_type_name() != "Parameter" or entry.get_element_type() != library.Type.u8:
            continue
        name = entry.output(0).get_any_name()
        shape = resize.output(0).partial_shape
        replacement = op.Parameter(library.Type.u8, shape)
        replacement.set_friendly_name(name)
        for consumer in resize.output(0).get_target_inputs():
            consumer.replace_source_output(replacement.output(0))
        model.add_parameters([replacement])
        model.remove_parameter(entry)
        replacement.output(0).set_names({name})
        sizes[name] = (shape[1].get_length(), shape[2].get_length())
    model.validate_nodes_and_infer_types()
    return sizes


def _simplify(model: "openvino.Model") -> None:
    """What each compiling would do by itself, done once for all batch sizes: of an int8 network two thirds of the nodes go."""
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=False)


def _check_signature(model_path: Path, model: "openvino.Model", signature: Signature) -> None:
    for kind, entries, specs in (("inputs", model.inputs, signature.inputs), ("outputs", model.outputs, signature.outputs)):
        found = {entry.get_any_name(): entry.element_type.to_string() for entry in entries}
        stated = {spec.name: _TYPES.get(spec.dtype, spec.dtype) for spec in specs}
        if found != stated:
            raise BundleError(f"{model_path} has the {kind} {found} where its bundle states {stated}. Export the model again.")
