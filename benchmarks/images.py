"""Images to measure on, rendered from a seed: nothing is downloaded, and every machine renders the same ones.

Ten classes of textures, each image with its own period, angle, place, colours, contrast and noise. No class becomes another one
when it is mirrored. A small convolutional network learns them in a few epochs, and not at once.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_TURN = 2 * math.pi
_SMALL_SIDE = 32

PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "bars": lambda _u, v: np.sin(_TURN * v),
    "columns": lambda u, _v: np.sin(_TURN * u),
    "checks": lambda u, v: np.sign(np.sin(_TURN * u) * np.sin(_TURN * v)),
    "waves": lambda u, v: np.sin(_TURN * (v + 0.3 * np.sin(_TURN * u / 2))),
    "rings": lambda u, v: np.sin(_TURN * np.hypot(u, v)),
    "dots": lambda u, v: np.where(np.cos(_TURN * u) + np.cos(_TURN * v) > 0.6, 1.0, -0.6),
    "grid": lambda u, v: np.where(np.maximum(np.cos(_TURN * u), np.cos(_TURN * v)) > 0.75, 1.0, -0.6),
    "diamonds": lambda u, v: np.sign(np.sin(_TURN * (u + v) * 0.7) * np.sin(_TURN * (u - v) * 0.7)),
    "spokes": lambda u, v: np.sin(8 * np.arctan2(v, u)),
    "bricks": lambda u, v: np.where((np.mod(v, 1) > 0.2) & (np.mod(u / 2 + np.floor(v) / 2, 1) > 0.12), 0.6, -1.0),
}


def render_texture(pattern: str, height: int, width: int, generator: np.random.Generator) -> Pixels:
    """One image of a class: uint8 [height, width, 3]."""
    scale = min(height, width) / _SMALL_SIDE
    period, angle = generator.uniform(5.0, 10.0) * scale, generator.uniform(-0.25, 0.25)
    x = np.arange(width) - width * generator.uniform(0.25, 0.75)
    y = np.arange(height)[:, None] - height * generator.uniform(0.25, 0.75)
    u = (x * math.cos(angle) + y * math.sin(angle)) / period
    v = (y * math.cos(angle) - x * math.sin(angle)) / period
    value = generator.uniform(0.25, 0.8) * PATTERNS[pattern](u, v)
    value += generator.uniform(0.2, 0.8) * _clouds(height, width, generator)
    ground, colour = generator.uniform(70, 185, 3), generator.uniform(-75, 75, 3)
    colour += np.where(colour < 0, -25, 25)
    image = ground + value[..., None] * colour + generator.normal(0, 12.0, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def _clouds(height: int, width: int, generator: np.random.Generator) -> Field:
    """Noise of all sizes, the larger the stronger, as in photographs; about -1 to 1."""
    total = np.zeros((height, width))
    cells, weight = 2, 1.0
    while cells < min(height, width):
        grid = generator.normal(0, 0.4, (cells, cells)).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
        cells, weight = cells * 2, weight * 0.6
    return total
