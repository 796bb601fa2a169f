"""ONNX Runtime: takes every bundle, strings included."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from slipway.engines.engine import Arrays, EngineInfo, MakeRoom, check_inputs
from slipway.errors import BundleError
from slipway.export.precision import Precision
from slipway.export.signature import Signature
from slipway.settings import configure_onnx_runtime

if TYPE_CHECKING:
    import onnxruntime

_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "int64": "tensor(int64)", "string": "tensor(string)"}
_LARGE_INPUT_BYTES = 4 * 1024 * 1024
"""Above which the memory of a run is given back after it: otherwise what one huge image took is kept for good."""


class OnnxRuntimeEngine:
    """A model run by ONNX Runtime."""

    batch_sizes: tuple[int, ...] = ()

    def __init__(
        self,
        model_path: Path,
        signature: Signature,
        *,
        num_threads: int = 1,
        device: str = "cpu",
        precision: Precision = "fp32",
        reason: str = "It was asked for.",
    ) -> None:
        """Load the model.

        Args:
            model_path: An ONNX file of a bundle.
            signature: What the bundle says that the model takes and gives.
            num_threads: Threads that one prediction may use.
            device: "cpu" or "cuda".
            precision: What the file computes in; it is stated, not changed.
            reason: Why this engine.

        Raises:
            BundleError: the file is missing, is no loadable model, or has other inputs or outputs than `signature`.
        """
        onnxruntime = import_onnxruntime()
        self.signature = signature
        self._session = _load_session(model_path, num_threads, device)
        self._give_back = onnxruntime.RunOptions()
        self._give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._output_names = [spec.name for spec in signature.outputs]
        _check_signature(model_path, self._session, signature)
        self.info = EngineInfo(
            name="onnxruntime",
            version=onnxruntime.__version__,
            device=device,
            precision=precision,
            num_threads=num_threads,
            reason=reason,
        )

    def predict(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.predict`."""
        return self.predict_prepared(self.prepare(inputs))

    def prepare(self, inputs: Arrays, make_room: MakeRoom | None = None) -> Arrays:  # noqa: ARG002 the contract's
        """See `Engine.prepare`: images grow inside the graph, a batch of them at a time."""
        check_inputs(self.signature, inputs)
        return inputs

    def predict_prepared(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.predict_prepared`."""
        is_large = sum(array.nbytes for array in inputs.values()) > _LARGE_INPUT_BYTES
        outputs = self._session.run(self._output_names, dict(inputs), self._give_back if is_large else None)
        return dict(zip(self._output_names, outputs, strict=True))

    def warm_up(self, inputs: Arrays, num_predictions: int = 3) -> None:
        """See `Engine.warm_up`."""
        for _ in range(num_predictions):
            self.predict(inputs)


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime without its reports to its makers.

    Raises:
        ImportError: it is not installed, or cannot be loaded on this machine.
    """
    configure_onnx_runtime()
    return importlib.import_module("onnxruntime")


def _load_session(model_path: Path, num_threads: int, device: str) -> "onnxruntime.InferenceSession":
    onnxruntime = import_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

    if not model_path.is_file():
        raise BundleError(f"{model_path} is missing. Export the model again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads cost three times the processor per small request (0.7 for 0.2 ms, two threads) and slow a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(model_path), options, providers=providers)
    except (
        onnx_errors.Fail,
        onnx_errors.InvalidArgument,
        onnx_errors.InvalidGraph,
        onnx_errors.InvalidProtobuf,
        onnx_errors.NoModel,
        onnx_errors.NotImplemented,
        onnx_errors.RuntimeException,
    ) as error:
        raise BundleError(f"{model_path} is not a model that ONNX Runtime can load ({error}). Export the model again.") from None


def _check_signature(model_path: Path, session: "onnxruntime.InferenceSession", signature: Signature) -> None:
    for kind, nodes, specs in (
        ("inputs", session.get_inputs(), signature.inputs),
        ("outputs", session.get_outputs(), signature.outputs),
    ):
        found = {node.name: node.type for node in nodes}
        stated = {spec.name: _ONNX_TYPES[spec.dtype] for spec in specs}
        if found != stated:
            raise BundleError(f"{model_path} has the {kind} {found} where its bundle states {stated}. Export the model again.")
