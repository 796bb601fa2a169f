"""One inference for several requests: their inputs put together, the outputs taken apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays, Engine
from slipway.errors import PredictionError
from slipway.log import get_logger

Outputs = dict[str, NDArray[Any]]
_log = get_logger(__name__)


def infer_together(engine: Engine, requests: Sequence[Arrays], request_ids: Sequence[str]) -> list[Outputs | Exception]:
    """The outputs of each request, or the error that is its answer; the log names a request that fails by its id.

    The inputs are prepared (`Engine.prepare`): arrays of one name have the same dtype, and differ in their first axis at most.
    Where the model does not take the requests together, each is tried alone, so that one fails for its own faults only.
    """
    if len(requests) == 1:
        return [_infer_alone(engine, requests[0], request_ids[0])]
    sizes = [len(next(iter(inputs.values()))) for inputs in requests]
    try:
        outputs = engine.predict_prepared({name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]})
    except Exception as error:  # noqa: BLE001 the library below may raise anything, and the neighbours are to be answered
        _log.warning("batch_taken_apart", request_ids=list(request_ids), error=repr(error))
        outputs = {}
    if not outputs or any(array.ndim == 0 or len(array) != sum(sizes) for array in outputs.values()):
        return [_infer_alone(engine, inputs, request_id) for inputs, request_id in zip(requests, request_ids, strict=True)]
    ends = np.cumsum(sizes).tolist()
    return [{name: array[end - size : end] for name, array in outputs.items()} for size, end in zip(sizes, ends, strict=True)]


def _infer_alone(engine: Engine, inputs: Arrays, request_id: str) -> Outputs | Exception:
    try:
        return engine.predict_prepared(inputs)
    except Exception as error:  # noqa: BLE001 the library below may raise anything, and the batcher lives on
        shapes = {name: list(array.shape) for name, array in inputs.items()}
        _log.exception("prediction_failed", request_id=request_id, shapes=shapes)
        return PredictionError(f"The model failed on this request ({type(error).__name__}); the server's log says more.")
