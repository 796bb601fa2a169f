"""The engine contract."""

from collections.abc import Callable, Mapping
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
MakeRoom = Callable[[int], None]
"""Told how many bytes are about to be taken; raises where there is no room for them."""
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
        It is `prepare` and `predict_prepared` in one.

        Raises:
            RequestError: an input is missing, unknown, or has a dtype or shape that the model does not accept.
        """

    def prepare(self, inputs: Arrays, make_room: MakeRoom | None = None) -> Arrays:
        """The inputs checked, and as they enter the network: images of another size are resized, unless the graph does that.

        Whoever puts batches together prepares them before: what then has one shape goes together. Takes no lock.

        Args:
            inputs: As for `predict`; they stay as they are.
            make_room: Called before any array is made, with the bytes of all that will be, and not where none will. What it
                raises is passed on.

        Raises:
            RequestError: as `predict` does.
        """

    def predict_prepared(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """As `predict`, for what `prepare` gave, or several such batches put together: it is not looked at again."""

    def warm_up(self, inputs: Arrays, num_predictions: int = 3) -> None:
        """Predict a few times, so that the first answer that counts pays for no allocation."""


def check_inputs(signature: Signature, inputs: Arrays) -> None:
    """RequestError where the inputs do not have the names, dtypes and shapes of the signature, or hold no sample."""
    sizes = set()
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None or array.dtype != _DTYPES[spec.dtype] or not spec.fits(array.shape):
            raise _refuse_inputs(signature, inputs)
        sizes.add(len(array))
    if len(inputs) != len(signature.inputs) or len(sizes) != 1:
        raise _refuse_inputs(signature, inputs)


def _refuse_inputs(signature: Signature, inputs: Arrays) -> RequestError:
    accepted = ", ".join(f"{spec.name}: {spec.dtype} {show_shape(spec.shape)}" for spec in signature.inputs)
    given = ", ".join(f"{name}: {array.dtype.name} {list(array.shape)}" for name, array in inputs.items())
    return RequestError(f"The model does not accept these inputs ({given}); accepted: {accepted}.")
