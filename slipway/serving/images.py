"""An uploaded image file as the input of a model."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slipway.data.decoding import decode_image
from slipway.data.images import Pixels, drop_equal_channels
from slipway.errors import DataError, RequestError
from slipway.export.signature import Signature, TensorSpec

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
_MAX_PIXELS = 40_000_000
_IMAGE_RANK = 4
_GREY, _COLOR = 1, 3


def parse_image(body: bytes, signature: Signature) -> dict[str, NDArray[Any]]:
    """Decode one JPEG, PNG or WebP image, as training data are, into the inputs of a model that takes one image.

    Raises:
        RequestError: the model takes something else, or the file is not a readable image of at most 40 megapixels.
    """
    spec = _image_spec(signature)
    try:
        pixels = decode_image(io.BytesIO(body), max_pixels=_MAX_PIXELS)
    except DataError as error:
        raise RequestError(f"The image cannot be read: {error}.") from None
    pixels = _match_channels(pixels, spec)
    for axis, size, wanted in zip(("height", "width"), pixels.shape[:2], spec.shape[1:3], strict=True):
        if wanted is not None and size != wanted:
            raise RequestError(f"The image's {axis} is {size}; accepted: {wanted}.")
    return {spec.name: pixels[None]}


def _image_spec(signature: Signature) -> TensorSpec:
    spec = signature.inputs[0]
    is_image = spec.dtype == "uint8" and len(spec.shape) == _IMAGE_RANK and spec.shape[3] in (_GREY, _COLOR)
    if len(signature.inputs) != 1 or not is_image:
        names = ", ".join(entry.name for entry in signature.inputs)
        raise RequestError(f"The model does not take one image but {names}; accepted: a V2 infer request as application/json.")
    return spec


def _match_channels(pixels: Pixels, spec: TensorSpec) -> Pixels:
    """Grey for a model of grey images, three channels for one of colours."""
    if spec.shape[3] == _COLOR:
        return pixels if pixels.shape[2] == _COLOR else pixels.repeat(_COLOR, axis=2)
    grey = drop_equal_channels(pixels)
    if grey.shape[2] == _GREY:
        return grey
    return np.asarray(Image.fromarray(grey).convert("L"))[..., np.newaxis]
