"""The network as all the baselines serve it: eager, in float32, images through Pillow and torchvision's transforms."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import models, transforms

from benchmarks.baselines.serving import DESCRIPTION_VARIABLE, WEIGHTS_NAME

_SMALL_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """What a server calls."""

    network: nn.Module
    transform: transforms.Compose
    mean: Tensor
    std: Tensor

    def classify_image(self, image: Image.Image) -> list[float]:
        """Probabilities of one image."""
        return self._run(self.transform(image.convert("RGB")).unsqueeze(0))[0].tolist()

    def classify_pixels(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities [images, classes] of pixels [images, height, width, 3], 0 to 255."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        return self._run((images - self.mean) / self.std).numpy()

    def _run(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            probabilities: Tensor = self.network(images).softmax(1)
            return probabilities


def load_classifier() -> Classifier:
    """The network that the environment names by its description; the weights lie beside it."""
    path = Path(os.environ[DESCRIPTION_VARIABLE])  # noqa: TID251 - a baseline's process, started by its own command line
    description = json.loads(path.read_text())
    network = BUILD[description["architecture"]](len(description["class_names"]), description["side"])
    network.load_state_dict(torch.load(path.with_name(WEIGHTS_NAME), weights_only=True))
    mean, std = (torch.tensor(description[name]) / 255 for name in ("mean", "std"))
    size = (description["side"], description["side"])
    return Classifier(
        network=network.eval(),
        transform=transforms.Compose(
            [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())]
        ),
        mean=mean.view(1, 3, 1, 1),
        std=std.view(1, 3, 1, 1),
    )


def build_resnet18(num_classes: int, side: int) -> nn.Module:
    """torchvision's; small images get the stem that everybody gives them."""
    network: nn.Module = models.resnet18(num_classes=num_classes)
    if side <= _SMALL_SIDE:
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


def build_mean_color(num_classes: int, _side: int) -> nn.Module:
    """A network that costs next to nothing: what is left is the server."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))


BUILD = {"resnet18": build_resnet18, "mean-color": build_mean_color}
