"""Image classification, the half that trains."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from slipway.config import ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.loaders import SplitData
from slipway.data.manifest import Feature, Manifest, Split
from slipway.models.registry import build_model
from slipway.models.specs import ImageSpec
from slipway.tasks.classification import OUTPUT
from slipway.tasks.image_classification.augment import crop_and_flip, cut_out, jitter_color
from slipway.tasks.image_classification.task import INPUT, TASK
from slipway.tasks.training_task import Batch, TrainingTask

if TYPE_CHECKING:
    import onnx


class NormaliseImages(nn.Module):
    """uint8 [samples, height, width, channels] to float32 [samples, channels, height, width] of mean 0 and deviation 1."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        scale = [1.0 / value if value > 0.0 else 1.0 for value in std]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, batch: Batch) -> Tensor:
        """The network's input; in channels_last layout, since that is how the pixels already lie."""
        images = batch[INPUT].permute(0, 3, 1, 2).float()
        normalised: Tensor = (images - self.mean) * self.scale
        return normalised


class ImageTraining:
    """See `TrainingTask`."""

    def load_split(self, dataset: Dataset, split: Split) -> SplitData:
        """The mapped shards themselves."""
        feature = _image_feature(dataset.manifest)
        targets = np.asarray(TASK.read_targets(dataset, split), dtype=np.int64)
        return SplitData(inputs={INPUT: dataset.read_parts(split, feature.name)}, targets=targets)

    def build_preprocessor(self, manifest: Manifest) -> nn.Module:
        """Normalisation by the train split's statistics."""
        statistics = manifest.statistics_of(_image_feature(manifest).name)
        return NormaliseImages(statistics.mean, statistics.std)

    def build_network(self, manifest: Manifest, config: ModelConfig) -> nn.Module:
        """From the registry; `auto` is the task's default."""
        height, width, channels = _image_feature(manifest).shape
        architecture = TASK.default_architecture if config.architecture == "auto" else config.architecture
        spec = ImageSpec(channels=channels, height=height, width=width)
        return build_model(architecture, spec, len(manifest.class_names), config)

    def augment(self, batch: Batch, config: TrainConfig, generator: torch.Generator) -> Batch:
        """Crop and flip, then colour, then cutout, as far as each is turned on."""
        images = crop_and_flip(batch[INPUT], config.crop_padding, flip=config.flip, generator=generator)
        images = jitter_color(images, config.color_jitter, generator)
        return {INPUT: cut_out(images, config.cutout, generator)}

    def compute_loss(self, output: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy."""
        return functional.cross_entropy(output, targets, label_smoothing=label_smoothing)

    def to_outputs(self, output: Tensor) -> dict[str, Tensor]:
        """Probabilities."""
        return {OUTPUT: output.softmax(1)}

    def finish_onnx(self, model: "onnx.ModelProto", manifest: Manifest) -> "onnx.ModelProto":
        """Let images of any size in: they are resized first, as Pillow's bilinear filter would."""
        from slipway.export.graph import prepend_resize

        height, width, _ = _image_feature(manifest).shape
        return prepend_resize(model, INPUT, height=height, width=width)


TRAINING_TASK: TrainingTask = ImageTraining()


def _image_feature(manifest: Manifest) -> Feature:
    return next(feature for feature in manifest.features if feature.role == "image")
