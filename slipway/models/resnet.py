"""Residual networks.

ResNet-9 follows the shape of David Page's CIFAR-10 network (myrtle.ai, "How to train your ResNet", 2018). ResNet-18 is He et al.,
"Deep Residual Learning for Image Recognition" (2015), table 1, with parameters named as in torchvision so that its weights load;
it is built here because torchvision's fixes the width and takes seconds to import.
"""

from torch import Tensor, nn

from slipway.config import ModelConfig
from slipway.models.specs import ImageSpec, scale_width
from slipway.models.stems import FULL_SIZE, conv_block, halve, reduce_image

_RESNET18_CHANNELS = (64, 128, 256, 512)


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_block(channels, channels), *conv_block(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Same shape as the input."""
        changed: Tensor = self.body(images)
        return images + changed


class ResNet9(nn.Module):
    """Stem, then three halvings of which the first and the last are followed by a residual block; maximum over the image."""

    def __init__(self, spec: ImageSpec, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        channels = [scale_width(value, config.width) for value in (64, 128, 256, 512)]
        stem, side = reduce_image(spec, channels[0])
        layers: list[nn.Module] = [*stem, *conv_block(channels[0] if stem else spec.channels, channels[0])]
        for inputs, outputs, blocks in zip(channels, channels[1:], (1, 0, 1), strict=False):
            pooling, side = halve(side)
            layers += [*conv_block(inputs, outputs, pooling=pooling), *(Residual(outputs) for _ in range(blocks))]
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(channels[3], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [samples, classes] of normalised images [samples, channels, height, width]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images).amax((2, 3))))
        return logits


class BasicBlock(nn.Module):
    """He et al., figure 5, left; a 1x1 convolution fits the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """[samples, outputs, height / stride, width / stride]."""
        shortcut = images if self.downsample is None else self.downsample(images)
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        result: Tensor = self.relu(changed + shortcut)
        return result


class ResNet18(nn.Module):
    """Four stages of two blocks; small images get a 3x3 stem of stride 1 without pooling."""

    def __init__(self, spec: ImageSpec, num_classes: int, config: ModelConfig) -> None:
        super().__init__()
        channels = [scale_width(value, config.width) for value in _RESNET18_CHANNELS]
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module
        if max(spec.height, spec.width) <= FULL_SIZE:
            self.conv1 = nn.Conv2d(spec.channels, channels[0], 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(spec.channels, channels[0], 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(channels[0], channels[0], stride=1)
        self.layer2 = _stage(channels[0], channels[1], stride=2)
        self.layer3 = _stage(channels[1], channels[2], stride=2)
        self.layer4 = _stage(channels[2], channels[3], stride=2)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits [samples, classes] of normalised images [samples, channels, height, width]."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(self.dropout(features.mean((2, 3))))
        return logits


def build_resnet9(spec: ImageSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """See `ResNet9`."""
    return ResNet9(spec, num_classes, config)


def build_resnet18(spec: ImageSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """See `ResNet18`."""
    return ResNet18(spec, num_classes, config)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
