"""What runs a bundle's model. Needs numpy and ONNX Runtime, never torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from slipway.errors import BundleError, RequestError
from slipway.export.signature import Signature

if TYPE_CHECKING:
    import onnxruntime

_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "int64": "tensor(int64)", "string": "tensor(string)"}


class Engine(Protocol):
    """A loaded model. `predict` may be called from several threads at once."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs for a batch, by name; the first axis of every array is the sample.

        Strings come and go as object arrays of str. Inputs have the dtypes of the signature.

        Raises:
            RequestError: an input is missing, unknown, or has a dtype or shape that the model does not accept.
        """


class OnnxRuntimeEngine:
    """A model run by ONNX Runtime on the CPU."""

    def __init__(self, model_path: Path, signature: Signature, *, num_threads: int = 1) -> None:
        """Load the model.

        Args:
            model_path: The ONNX file of a bundle.
            signature: What the bundle says that the model takes and gives.
            num_threads: Threads that one prediction may use.

        Raises:
            BundleError: the file is missing, is no loadable model, or has other inputs or outputs than `signature`.
        """
        self.signature = signature
        self._session = _load_session(model_path, num_threads)
        self._output_names = [spec.name for spec in signature.outputs]
        _check_signature(model_path, self._session, signature)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Engine.predict`."""
        from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

        try:
            outputs = self._session.run(self._output_names, dict(inputs))
        except (onnx_errors.InvalidArgument, onnx_errors.RuntimeException, onnx_errors.Fail, ValueError, RuntimeError) as error:
            accepted = ", ".join(f"{spec.name}: {spec.dtype} {_words(spec.shape)}" for spec in self.signature.inputs)
            given = ", ".join(f"{name}: {array.dtype.name} {list(array.shape)}" for name, array in inputs.items())
            raise RequestError(f"The model does not accept these inputs ({given}); accepted: {accepted}. {error}") from None
        return dict(zip(self._output_names, outputs, strict=True))

    def warm_up(self, inputs: Mapping[str, NDArray[Any]], num_predictions: int = 3) -> None:
        """Predict a few times, so that the first answer that counts pays for no allocation."""
        for _ in range(num_predictions):
            self.predict(inputs)


def _load_session(model_path: Path, num_threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

    if not model_path.is_file():
        raise BundleError(f"{model_path} is missing. Export the model again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads cost three times the processor per small request (0.7 for 0.2 ms, two threads) and slow a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
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


def _words(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
