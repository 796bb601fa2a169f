"""One image: what it holds, and the size and channels it is stored with."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

NUM_COLOR_CHANNELS = 3
DIGEST_BYTES = 16


def drop_equal_channels(pixels: Pixels) -> Pixels:
    """One channel where the three are equal everywhere: grey is grey, whatever file format it came in."""
    if pixels.shape[2] == NUM_COLOR_CHANNELS:
        first = pixels[..., 0]
        if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
            return pixels[..., :1]
    return pixels


def hash_pixels(pixels: Pixels) -> bytes:
    """What an image holds: 16 bytes that depend on its pixels and shape alone."""
    canonical = np.ascontiguousarray(drop_equal_channels(pixels))
    digest = hashlib.sha256("x".join(map(str, canonical.shape)).encode())
    digest.update(canonical.data)
    return digest.digest()[:DIGEST_BYTES]


def fit_image(pixels: Pixels, height: int, width: int, channels: int) -> Pixels:
    """`pixels` at the given size and number of channels.

    Resizing is Pillow's antialiased bilinear filter, without regard to the aspect ratio: what the exported graph does too.
    """
    grey = drop_equal_channels(pixels)
    if grey.shape[:2] != (height, width):
        image = Image.fromarray(grey[..., 0] if grey.shape[2] == 1 else grey)
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        grey = resized.reshape(height, width, grey.shape[2])
    return grey if grey.shape[2] == channels else np.repeat(grey, channels, axis=2)
