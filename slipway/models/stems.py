"""First layers, chosen by image size: small images keep every pixel, large ones are reduced before the costly layers."""

from torch import nn

from slipway.models.specs import ImageSpec

FULL_SIZE = 64
"""Images up to this side, in pixels, are not reduced by a stem."""


def conv_block(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def reduce_image(spec: ImageSpec, channels: int) -> tuple[list[nn.Module], int]:
    """Layers that bring a large image to at most `FULL_SIZE` pixels a side (none for a small one), and the side they give."""
    layers: list[nn.Module] = []
    side = min(spec.height, spec.width)
    inputs = spec.channels
    while max(spec.height, spec.width) >> len(layers) // 3 > FULL_SIZE:
        layers += conv_block(inputs, channels, stride=2, kernel=3 if layers else 7)
        inputs = channels
        side = -(-side // 2)
    return layers, side
