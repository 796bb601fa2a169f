"""A plain convolutional network: the smallest one worth training on images."""

from torch import Tensor, nn

from slipway.config import ModelConfig
from slipway.models.specs import ImageSpec, scale_width
from slipway.models.stems import conv_block, halve, reduce_image

_CHANNELS = (32, 64, 128)


class SimpleCNN(nn.Module):
    """Three stages of two 3x3 convolutions, halving the image between them while it is at least 4 pixels; then the mean."""

    def __init__(self, spec: ImageSpec, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        stages = [scale_width(channels, config.width) for channels in _CHANNELS]
        stem, side = reduce_image(spec, stages[0])
        layers: list[nn.Module] = list(stem)
        previous = stages[0] if stem else spec.channels
        for index, channels in enumerate(stages):
            layers += [*conv_block(previous, channels), *conv_block(channels, channels)]
            if index < len(stages) - 1 and side >= 4:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            previous = channels
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(previous, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [samples, classes] of normalised images [samples, channels, height, width]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images).mean((2, 3))))
        return logits


def build_simple_cnn(spec: ImageSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """See `SimpleCNN`."""
    return SimpleCNN(spec, num_classes, config)
