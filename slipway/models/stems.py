"""First layers, chosen by image size: small images keep every pixel, large ones are reduced before the costly layers."""

from collections.abc import Sequence

from torch import nn

from slipway.models.specs import ImageSpec

FULL_SIZE = 64
"""Images up to this side, in pixels, are not reduced by a stem."""
_MIN_SIDE = 2
"""Pixels below which pooling does not go: batch normalisation over a single one would be noise."""


def conv_block(
    inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3, pooling: Sequence[nn.Module] = ()
) -> list[nn.Module]:
    """Convolution, batch normalisation, maximum pooling where it is given, ReLU.

    The maximum goes first: the result is the same as after ReLU, which has a quarter of the values left to look at.
    """
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        *pooling,
        nn.ReLU(inplace=True),
    ]


def halve(side: int) -> tuple[list[nn.Module], int]:
    """Maximum pooling that halves an image of `side` pixels (nothing where it is too small), and the side it gives."""
    return ([nn.MaxPool2d(2)], side // 2) if side // 2 >= _MIN_SIDE else ([], side)


def reduce_image(spec: ImageSpec, channels: int) -> tuple[list[nn.Module], int]:
    """Layers that bring a large image to at most `FULL_SIZE` pixels a side (none for a small one), and the shorter side then.

    The first has 7x7 filters, which see as much of a large image as a few layers of 3x3 see of a small one.
    """
    layers: list[nn.Module] = []
    height, width, inputs = spec.height, spec.width, spec.channels
    while max(height, width) > FULL_SIZE:
        layers += conv_block(inputs, channels, stride=2, kernel=3 if layers else 7)
        height, width, inputs = -(-height // 2), -(-width // 2), channels
    return layers, min(height, width)
