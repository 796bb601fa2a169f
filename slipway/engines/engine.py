"""The engine contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway.errors import RequestError
from slipway.export.precision import Precision
from slipway.export.signature import Signature, show_shape

EngineName = Literal["openvino", "onnxruntime"]
Arrays = Mapping[str, NDArray[Any]]
"""Inputs or outputs by name."""
_DTYPES = {"uint8": np.dtype("uint8"), "float32": np.dtype("float32"), "int64": np.dtype("int64"), "string": np.dtype(object)}


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What runs a model, as logs and metadata state it."""

    name: EngineName
    version: str
    device: str
    """"cpu" or "cuda"."""
    precision: Precision
    num_threads: int
    """That one prediction may use."""
    reason: str
    """One sentence: why this engine and this precision."""


class Engine(Protocol):
    """A loaded model. `predict` may be called from several threads at once."""

    @property
    def info(self) -> EngineInfo:
        """What runs the model, and why."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batches that `warm_up` prepares the engine for, ascending from 1; () where it takes a batch of any size at once."""

    def predict(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for a batch, by name; the first axis of every array is the sample.

        Strings come and go as object arrays of str. Inputs have the dtypes of the signature. The arrays belong to the caller.

        Raises:
            RequestError: an input is missing, unknown, or has a dtype or shape that the model does not accept.
        """

    def prepare(self, inputs: Arrays) -> Arrays:
        """The inputs as they enter the network: images of another size are resized, where the engine does that outside its graph.

        `predict` does it too. Whoever puts requests together does it before, so that images of all sizes go together.
        Takes no lock; raises as `predict` does.
        """

    def prepared_bytes(self, inputs: Arrays) -> int:
        """Bytes that `prepare` would add to those of the inputs, which stay as they are; 0 where it makes nothing.

        Raises as `predict` does.
        """

    def warm_up(self, inputs: Arrays, num_predictions: int = 3) -> None:
        """Predict a few times, so that the first answer that counts pays for no allocation."""


def check_inputs(signature: Signature, inputs: Arrays) -> None:
    """RequestError where the inputs do not have the names, dtypes and shapes of the signature, or hold no sample."""
    sizes = set()
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None or array.dtype != _DTYPES[spec.dtype] or not spec.fits(array.shape):
            raise refuse_inputs(signature, inputs)
        sizes.add(len(array))
    if len(inputs) != len(signature.inputs) or len(sizes) != 1:
        raise refuse_inputs(signature, inputs)


def refuse_inputs(signature: Signature, inputs: Arrays, why: object = "") -> RequestError:
    """What to raise for inputs that the model does not take."""
    accepted = ", ".join(f"{spec.name}: {spec.dtype} {show_shape(spec.shape)}" for spec in signature.inputs)
    given = ", ".join(f"{name}: {array.dtype.name} {list(array.shape)}" for name, array in inputs.items())
    return RequestError(f"The model does not accept these inputs ({given}); accepted: {accepted}. {why}".rstrip())
