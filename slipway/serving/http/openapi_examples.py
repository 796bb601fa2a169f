"""Requests that a model is known to answer, from its golden examples, in the forms of the protocols."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from slipway.export.signature import Signature
from slipway.serving.inference.model import LoadedModel
from slipway.serving.wire.images import find_image_spec
from slipway.serving.wire.rows import takes_columns
from slipway.serving.wire.v2 import write_request

MAX_VALUES = 4096
"""Above which an example is too long to be read in JSON."""
_MAX_PIXELS = 1_000_000
_GREY = 1


def find_inputs(model: LoadedModel) -> Mapping[str, NDArray[Any]] | None:
    """The inputs of the first golden example."""
    return model.golden[0].inputs if model.golden else None


def write_v2_example(signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> Any:
    """As a V2 request; None where it would be too long."""
    if sum(array.size for array in inputs.values()) > MAX_VALUES:
        return None
    return orjson.loads(write_request(inputs, signature))


def write_v1_example(signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> Any:
    """As a V1 request: a row, or an image file in base64; None where it is neither, or would be too long."""
    if takes_columns(signature):
        return {"instances": [{name: _to_json(array[0]) for name, array in inputs.items()}]}
    spec = find_image_spec(signature)
    if spec is not None and inputs[spec.name].size <= _MAX_PIXELS:
        return {"instances": [{"b64": base64.b64encode(_to_png(inputs[spec.name][0])).decode()}]}
    return None


def _to_json(value: Any) -> Any:
    if isinstance(value, np.floating):
        return None if np.isnan(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value or None


def _to_png(pixels: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == _GREY else pixels).save(stream, format="PNG")
    return stream.getvalue()
