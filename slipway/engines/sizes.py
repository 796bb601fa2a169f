"""Images at the size that a network takes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def resize_images(images: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """uint8 [samples, any, any, channels] to [samples, height, width, channels].

    By Pillow's bilinear filter, as training images are resized: the graph's own Resize differs from it by at most 1 of 255.
    """
    from PIL import Image

    resized = np.empty((len(images), height, width, images.shape[3]), dtype=np.uint8)
    for image, target in zip(images, resized, strict=True):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        target[...] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(target.shape)
    return resized
