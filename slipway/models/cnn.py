"""A plain convolutional network: the smallest one worth training on images."""

import itertools

from torch import Tensor, nn

from slipway.config import ModelConfig
from slipway.models.specs import ImageSpec, scale_width
from slipway.models.stems import conv_block, halve, reduce_image

_CHANNELS = (32, 64, 128)


class SimpleCNN(nn.Module):
    """Three 3x3 convolutions with the image halved between them; then the mean over it."""

    def __init__(self, spec: ImageSpec, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        channels = [scale_width(value, config.width) for value in _CHANNELS]
        stem, side = reduce_image(spec, channels[0])
        widths = [channels[0] if stem else spec.channels, *channels]
        layers = stem
        for inputs, outputs in itertools.pairwise(widths[:-1]):
            pooling, side = halve(side)
            layers += conv_block(inputs, outputs, pooling=pooling)
        layers += conv_block(widths[-2], widths[-1])
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [samples, classes] of normalised images [samples, channels, height, width]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images).mean((2, 3))))
        return logits


def build_simple_cnn(spec: ImageSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """See `SimpleCNN`."""
    return SimpleCNN(spec, num_classes, config)
