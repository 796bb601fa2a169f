"""What all kinds of classification share, whatever their inputs are. Needs no torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.data.dataset import Column, Dataset
from slipway.data.manifest import LABEL_COLUMN, PROBABILITIES, Manifest, Split
from slipway.engines.engine import Arrays
from slipway.export.signature import TensorSpec
from slipway.tasks.classification_metrics import FIGURES, break_down_classes, compute_figures
from slipway.tasks.task import Answer, Breakdown, Figure, Plot, PrimaryMetric, WrongSample

OUTPUT = PROBABILITIES
"""Name of the bundle's output: float32 [samples, classes], rows adding up to 1."""


class ClassificationTask(ABC):
    """The shared half: accuracy is the primary metric, a class is a slice."""

    @property
    def primary_metric(self) -> PrimaryMetric:
        """What the gate compares."""
        return PrimaryMetric(name="accuracy", higher_is_better=True)

    @property
    def slice_noun(self) -> str:
        """A slice is a class."""
        return "classes"

    @property
    def figures(self) -> Mapping[str, Figure]:
        """How to read the figures, in the order to show them."""
        return FIGURES

    def read_targets(self, dataset: Dataset, split: Split) -> NDArray[np.int64]:
        """Class indices [rows]."""
        return dataset.read_column(split, LABEL_COLUMN)

    def decode(self, outputs: Arrays, class_names: Sequence[str]) -> list[Answer]:
        """The most probable class of each sample."""
        answers = []
        for row in outputs[OUTPUT]:
            best = int(row.argmax())
            by_name = {name: float(value) for name, value in zip(class_names, row, strict=True)}
            answers.append(Answer(label=class_names[best], probability=float(row[best]), probabilities=by_name))
        return answers

    def score_samples(self, outputs: Arrays, targets: NDArray[Any]) -> NDArray[np.float64]:
        """1 where the most probable class is the right one, else 0."""
        correct: NDArray[np.bool_] = outputs[OUTPUT].argmax(axis=1) == targets
        return correct.astype(np.float64)

    def compute_metrics(
        self,
        outputs: Arrays,
        targets: NDArray[Any],
        class_names: Sequence[str],  # noqa: ARG002
    ) -> dict[str, float]:
        """All overall figures."""
        return compute_figures(outputs[OUTPUT], targets)

    def break_down(self, outputs: Arrays, targets: NDArray[Any], class_names: Sequence[str]) -> Breakdown:
        """Precision, recall and F1 of each class, the confusion matrix, and the ROC curve."""
        return break_down_classes(outputs[OUTPUT], targets, class_names)

    def find_slices(self, targets: NDArray[Any], class_names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """One slice a class."""
        return {name: targets == index for index, name in enumerate(class_names)}

    def draw_plots(self, outputs: Arrays, targets: NDArray[Any], class_names: Sequence[str]) -> list[Plot]:
        """Confusion matrix, ROC, precision and recall, reliability."""
        from slipway.tasks.classification_plots import draw_all

        return draw_all(outputs[OUTPUT], targets, class_names)

    def find_worst(self, dataset: Dataset, split: Split, outputs: Arrays, limit: int) -> list[WrongSample]:
        """Wrongly classified samples, the surest first."""
        probabilities, targets = outputs[OUTPUT], self.read_targets(dataset, split)
        predicted = probabilities.argmax(axis=1)
        wrong = np.flatnonzero(predicted != targets)
        rows = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:limit]
        sample_ids = dataset.sample_ids(split)
        class_names = dataset.manifest.class_names
        return [
            WrongSample(
                sample_id=sample_ids[row],
                actual=class_names[targets[row]],
                predicted=class_names[predicted[row]],
                probability=float(probabilities[row, predicted[row]]),
                png=png,
                fields=fields,
            )
            for row, (png, fields) in zip(rows, self.show_samples(dataset, split, rows), strict=True)
        ]

    @abstractmethod
    def show_samples(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> list[tuple[bytes | None, dict[str, str]]]:
        """A picture, the fields, or both, of each of some rows."""

    @staticmethod
    def output_spec(manifest: Manifest) -> TensorSpec:
        """The one output of every classifier's bundle."""
        return TensorSpec(name=OUTPUT, dtype="float32", shape=(None, len(manifest.class_names)))


def gather_rows(parts: Sequence[Column], rows: NDArray[np.int64]) -> Column:
    """Some rows of a column that is stored in several parts, as one new array in the order of `rows`."""
    if len(parts) == 1:
        gathered: Column = parts[0][rows]
        return gathered
    bounds = np.cumsum([0, *(len(part) for part in parts)])
    gathered = np.empty((len(rows), *parts[0].shape[1:]), dtype=parts[0].dtype)
    for part, start, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
        inside = (rows >= start) & (rows < end)
        gathered[inside] = part[rows[inside] - start]
    return gathered
