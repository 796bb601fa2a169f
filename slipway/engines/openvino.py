"""OpenVINO on the CPU: the fastest engine for networks of numbers. It knows no strings."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from slipway.engines.engine import Arrays, EngineInfo, MakeRoom, check_inputs
from slipway.engines.openvino_graphs import Graphs
from slipway.engines.openvino_network import read_network, reading_errors
from slipway.engines.sizes import resize_images
from slipway.errors import BundleError
from slipway.export.precision import Precision
from slipway.export.signature import Signature

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
            network = read_network(library, model_path, signature, precision)
            self._graphs = Graphs(core, network.graph, precision=precision, num_threads=num_threads)
        except reading_errors() as error:
            raise BundleError(
                f"{model_path} is not a model that OpenVINO can load ({_last_line(error)}). Export the model again, or "
                "serve it with the engine onnxruntime."
            ) from None
        self._image_sizes = network.image_sizes
        self.batch_sizes = self._graphs.batch_sizes

    def predict(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.predict`."""
        return self.predict_prepared(self.prepare(inputs))

    def prepare(self, inputs: Arrays, make_room: MakeRoom | None = None) -> Arrays:
        """See `Engine.prepare`."""
        check_inputs(self.signature, inputs)
        resized = {name: size for name, size in self._image_sizes.items() if inputs[name].shape[1:3] != size}
        if not resized:
            return inputs
        if make_room is not None:
            make_room(sum(len(inputs[name]) * math.prod(size) * inputs[name].shape[3] for name, size in resized.items()))
        return {**inputs, **{name: resize_images(inputs[name], *size) for name, size in resized.items()}}

    def predict_prepared(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.predict_prepared`."""
        return self._graphs.run(inputs)

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


def _last_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line), repr(error))
