"""The task contract: all that differs between kinds of problem.

A task has two halves. `Task` is what is known without torch: ingest, preprocess, evaluation, serving and deploy import it and
nothing more. `TrainingTask` (slipway.tasks.training_task) is what trains, imported by training and export alone. No other
module asks which task it is working on.

Invariants:
- `score_samples(...).mean()` is the primary metric, so that a paired test over samples is a test of that metric.
- `read_inputs` yields exactly what the bundle's signature describes, for any rows of any split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway.data.dataset import Dataset
from slipway.data.manifest import Manifest, Split
from slipway.engines.engine import Arrays
from slipway.export.signature import Signature


@dataclass(frozen=True, kw_only=True)
class PrimaryMetric:
    """The one figure that the gate compares."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How a figure of the report is to be read."""

    title: str
    meaning: str
    """One line for a person who does not know the term."""
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """How many samples of each class (rows) were taken for which (columns)."""

    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class RocCurve:
    """Points of a receiver operating characteristic, by falling threshold; thinned out, all finite."""

    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """What stands beside the overall figures. A task leaves out what it does not have."""

    slices: dict[str, dict[str, float]]
    """Figures of each of `find_slices`, by slice and figure name; what is undefined for a slice is left out."""
    confusion: ConfusionMatrix | None = None
    roc: RocCurve | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One prediction, in words a person can read."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of the report."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    png: bytes
    is_wide: bool = False
    """Whether it needs a page's full width to be read."""


@dataclass(frozen=True, kw_only=True)
class WrongSample:
    """A test sample that the model was most confidently wrong about."""

    sample_id: str
    actual: str
    predicted: str
    probability: float
    png: bytes | None
    """The image, for tasks that have one."""
    fields: dict[str, str]
    """The columns, for tasks that have them."""


class Task(Protocol):
    """The half of a task that needs no torch."""

    @property
    def name(self) -> str:
        """As in manifests and bundles: `image-classification`."""

    @property
    def primary_metric(self) -> PrimaryMetric:
        """What the gate compares."""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """How to read the figures of `compute_metrics` and `break_down`, by name, in the order to show them."""

    @property
    def default_architecture(self) -> str:
        """The model that `model.architecture=auto` means."""

    def signature(self, manifest: Manifest) -> Signature:
        """Inputs and outputs of a bundle trained on this data set."""

    def read_inputs(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The bundle's inputs for some rows of a split: one array an input, the first axis the sample."""

    def read_targets(self, dataset: Dataset, split: Split) -> NDArray[Any]:
        """What the model should answer, in row order."""

    def decode(self, outputs: Arrays, class_names: Sequence[str]) -> list[Answer]:
        """The bundle's outputs in words, one answer a sample."""

    def score_samples(self, outputs: Arrays, targets: NDArray[Any]) -> NDArray[np.float64]:
        """Each sample's share of the primary metric [samples]; their mean is the metric."""

    def compute_metrics(self, outputs: Arrays, targets: NDArray[Any], class_names: Sequence[str]) -> dict[str, float]:
        """All overall figures, flat, the primary metric among them; names are the field's (`f1_macro`).

        Every figure is finite: one that is undefined on these samples is left out. `outputs` must be finite.
        """

    def break_down(self, outputs: Arrays, targets: NDArray[Any], class_names: Sequence[str]) -> Breakdown:
        """Figures of each slice, and the tables that a dashboard draws by itself. `outputs` must be finite."""

    def find_slices(self, targets: NDArray[Any], class_names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """Groups of samples that the gate also judges by themselves: a mask [samples] for each name."""

    @property
    def slice_noun(self) -> str:
        """What a slice is, in the plural, for messages: `classes`."""

    def draw_plots(self, outputs: Arrays, targets: NDArray[Any], class_names: Sequence[str]) -> list[Plot]:
        """The report's pictures."""

    def find_worst(self, dataset: Dataset, split: Split, outputs: Arrays, limit: int) -> list[WrongSample]:
        """The most confident mistakes among the outputs for a whole split, worst first, at most `limit`."""
