"""Classification of a table's rows, the half that trains.

A raw batch holds numbers as float32 with NaN for missing, and categories as their index: 0 for what the train split does not
have, a missing value included, else 1 and on in the order of the manifest's categories.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from slipway.config import ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.loaders import SplitData
from slipway.data.manifest import Feature, FeatureStatistics, Manifest, Split
from slipway.models.registry import build_model
from slipway.models.specs import TableSpec
from slipway.tasks.classification import OUTPUT
from slipway.tasks.tabular_classification.task import TASK
from slipway.tasks.training_task import Batch, TrainingTask

if TYPE_CHECKING:
    import onnx

_CLIP = 10.0
"""Standard deviations beyond which a number counts as this many: one typing error must not drown the rest."""

_SMALLEST_STD = float(torch.finfo(torch.float32).tiny)
"""Deviations below which a column counts as constant: the reciprocal would be infinite."""


class EncodeColumns(nn.Module):
    """Columns to one row of numbers a sample.

    A number is standardised, 0 where missing, and followed by an indicator where the train split has missing values; a
    category becomes one-hot.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[tuple[Feature, FeatureStatistics]]) -> None:
        super().__init__()
        self._numeric = [feature.name for feature, _ in columns if feature.role == "numeric"]
        numeric = [statistics for feature, statistics in columns if feature.role == "numeric"]
        self._with_indicator = [entry.feature for entry in numeric if entry.num_missing > 0]
        self._categorical = [
            (feature.name, len(known_categories(statistics)) + 1)
            for feature, statistics in columns
            if feature.role == "categorical"
        ]
        self.register_buffer("mean", torch.tensor([entry.mean[0] for entry in numeric], dtype=torch.float32))
        scale = [1.0 / entry.std[0] if entry.std[0] > _SMALLEST_STD else 1.0 for entry in numeric]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    @property
    def num_features(self) -> int:
        """Width of the rows it gives."""
        return len(self._numeric) + len(self._with_indicator) + sum(size for _, size in self._categorical)

    def forward(self, batch: Batch) -> Tensor:
        """[samples, num_features], float32."""
        parts: list[Tensor] = []
        if self._numeric:
            raw = torch.stack([batch[name] for name in self._numeric], 1)
            scaled = ((raw - self.mean) * self.scale).clamp(-_CLIP, _CLIP)
            parts.append(torch.where(raw.isnan(), torch.zeros_like(scaled), scaled))
        parts += [batch[name].isnan().float()[:, None] for name in self._with_indicator]
        parts += [functional.one_hot(batch[name], size).float() for name, size in self._categorical]
        return torch.cat(parts, 1)


class TabularTraining:
    """See `TrainingTask`."""

    def load_split(self, dataset: Dataset, split: Split) -> SplitData:
        """Numbers as they are mapped; categories looked up once."""
        inputs: dict[str, list[NDArray[Any]]] = {}
        for feature, statistics in _columns(dataset.manifest):
            parts = dataset.read_parts(split, feature.name)
            if feature.role == "categorical":
                parts = [_encode(part, known_categories(statistics)) for part in parts]
            inputs[feature.name] = parts
        targets = np.asarray(TASK.read_targets(dataset, split), dtype=np.int64)
        return SplitData(inputs=inputs, targets=targets)

    def build_preprocessor(self, manifest: Manifest) -> nn.Module:
        """Fitted to the train split's statistics."""
        return EncodeColumns(_columns(manifest))

    def build_network(self, manifest: Manifest, config: ModelConfig) -> nn.Module:
        """From the registry; `auto` is the task's default."""
        architecture = TASK.default_architecture if config.architecture == "auto" else config.architecture
        spec = TableSpec(num_features=EncodeColumns(_columns(manifest)).num_features)
        return build_model(architecture, spec, len(manifest.class_names), config)

    def augment(self, batch: Batch, config: TrainConfig, generator: torch.Generator) -> Batch:  # noqa: ARG002
        """Rows stay as they are."""
        return batch

    def compute_loss(self, output: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy."""
        return functional.cross_entropy(output, targets, label_smoothing=label_smoothing)

    def to_outputs(self, output: Tensor) -> dict[str, Tensor]:
        """Probabilities."""
        return {OUTPUT: output.softmax(1)}

    def finish_onnx(self, model: "onnx.ModelProto", manifest: Manifest) -> "onnx.ModelProto":
        """Let categories in as strings: they are looked up first."""
        from slipway.export.graph import prepend_lookup

        for feature, statistics in _columns(manifest):
            if feature.role == "categorical":
                model = prepend_lookup(model, feature.name, known_categories(statistics))
        return model


TRAINING_TASK: TrainingTask = TabularTraining()


def known_categories(statistics: FeatureStatistics) -> tuple[str, ...]:
    """The categories that have an index of their own; "" is how a missing value is written in a request."""
    return tuple(value for value in statistics.categories if value != "")


def _encode(values: NDArray[Any], categories: Sequence[str]) -> NDArray[np.int64]:
    index = {category: position for position, category in enumerate(categories, start=1)}
    return np.array([index.get(value, 0) for value in values], dtype=np.int64)


def _columns(manifest: Manifest) -> list[tuple[Feature, FeatureStatistics]]:
    return [(feature, manifest.statistics_of(feature.name)) for feature in manifest.features if feature.role != "image"]
