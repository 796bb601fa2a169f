"""The half of the task contract that trains. Imported by training and export alone: it needs torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from slipway.config import ModelConfig, TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.loaders import SplitData
from slipway.data.manifest import Manifest, Split

if TYPE_CHECKING:
    import onnx

Batch = Mapping[str, Tensor]


class TrainingTask(Protocol):
    """What training and export need to know of a task.

    Invariant: for every input that the bundle's signature allows, `build_preprocessor` followed by the network, as torch and
    as the exported ONNX, gives the same outputs.
    """

    def load_split(self, dataset: Dataset, split: Split) -> SplitData:
        """The split as the arrays that batches are gathered from, without a copy where it is mapped."""

    def build_preprocessor(self, manifest: Manifest) -> nn.Module:
        """From a gathered batch (a mapping of raw tensors) to the network's input; part of the exported graph."""

    def build_network(self, manifest: Manifest, config: ModelConfig) -> nn.Module:
        """The network, from the model registry, sized for this data set."""

    def augment(self, batch: Batch, config: TrainConfig, generator: torch.Generator) -> Batch:
        """Random changes to a whole raw batch, on its device."""

    def compute_loss(self, output: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Mean loss of the batch (a scalar)."""

    def to_outputs(self, output: Tensor) -> dict[str, Tensor]:
        """The network's output as the bundle's outputs (`probabilities`), by name; part of the exported graph."""

    def finish_onnx(self, model: "onnx.ModelProto", manifest: Manifest) -> "onnx.ModelProto":
        """Add what torch cannot express (string look-up) to the exported graph; images need nothing."""
