"""An uploaded image file as the input of a model."""

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media types that are accepted, and Pillow's names for them."""
_MAX_PIXELS = 40_000_000
_IMAGE_RANK = 4
_NUM_COLOR_CHANNELS = 3
_MODES = {1: "L", _NUM_COLOR_CHANNELS: "RGB"}
_REFUSALS = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, OverflowError, MemoryError, struct.error)
"""What Pillow's decoders raise on damaged files."""


def parse_image(body: bytes, media_type: str, signature: Signature) -> dict[str, NDArray[Any]]:
    """Decode one image as the inputs of a model that takes one image.

    Raises:
        RequestError: the model takes something else, or the file is not a readable image of at most 40 megapixels.
    """
    from PIL import Image, ImageOps

    spec = _image_spec(signature)
    mode = _MODES[_channels(spec)]
    try:
        with Image.open(io.BytesIO(body), formats=[FORMATS[media_type]]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise RequestError(f"The image has {image.width} x {image.height} pixels; accepted: at most {_MAX_PIXELS}.")
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(_flatten(upright).convert(mode))
    except RequestError:
        raise
    except (*_REFUSALS, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RequestError(f"The body is not a readable {FORMATS[media_type]} image ({error}).") from None
    _check_size(pixels, spec)
    return {spec.name: pixels.reshape(1, *pixels.shape[:2], _channels(spec))}


def _image_spec(signature: Signature) -> TensorSpec:
    spec = signature.inputs[0]
    if len(signature.inputs) != 1 or spec.dtype != "uint8" or len(spec.shape) != _IMAGE_RANK or spec.shape[3] not in _MODES:
        names = ", ".join(entry.name for entry in signature.inputs)
        raise RequestError(f"The model does not take one image but {names}; accepted: a V2 infer request as application/json.")
    return spec


def _channels(spec: TensorSpec) -> int:
    channels = spec.shape[3]
    assert channels is not None  # noqa: S101  # _image_spec let through those in _MODES alone
    return channels


def _flatten(image: "Picture") -> "Picture":
    """The image without transparency: what shines through is black, as in the data set."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)


def _check_size(pixels: NDArray[np.uint8], spec: TensorSpec) -> None:
    for axis, size, wanted in zip(("height", "width"), pixels.shape[:2], spec.shape[1:3], strict=True):
        if wanted is not None and size != wanted:
            raise RequestError(f"The image's {axis} is {size}; accepted: {wanted}.")
