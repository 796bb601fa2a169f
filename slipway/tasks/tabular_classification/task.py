"""Classification of a table's rows, the half that needs no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.data.dataset import Column, Dataset
from slipway.data.manifest import Feature, Manifest, Split
from slipway.export.signature import Signature, TensorSpec
from slipway.tasks.classification import ClassificationTask, gather_rows
from slipway.tasks.task import Task


class TabularClassification(ClassificationTask):
    """Named columns in, one class out."""

    name = "tabular-classification"
    default_architecture = "mlp"

    def signature(self, manifest: Manifest) -> Signature:
        """One input a column, called as the column is: numbers with NaN, categories with "" for missing."""
        inputs = tuple(
            TensorSpec(name=feature.name, dtype="float32" if feature.role == "numeric" else "string", shape=(None,))
            for feature in _columns(manifest)
        )
        return Signature(inputs=inputs, outputs=(self.output_spec(manifest),))

    def read_inputs(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Numbers as float32 [rows], categories as object arrays of str [rows]."""
        return {feature.name: _read_column(dataset, split, feature, rows) for feature in _columns(dataset.manifest)}

    def show_samples(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> list[tuple[bytes | None, dict[str, str]]]:
        """Each row's columns as text."""
        inputs = self.read_inputs(dataset, split, rows)
        return [(None, {name: _to_text(values[index]) for name, values in inputs.items()}) for index in range(len(rows))]


TASK: Task = TabularClassification()


def _columns(manifest: Manifest) -> list[Feature]:
    return [feature for feature in manifest.features if feature.role != "image"]


def _read_column(dataset: Dataset, split: Split, feature: Feature, rows: NDArray[np.int64]) -> Column:
    values = gather_rows(dataset.read_parts(split, feature.name), rows)
    if feature.role == "numeric":
        return values
    return np.array(["" if value is None else str(value) for value in values], dtype=object)


def _to_text(value: object) -> str:
    if isinstance(value, np.floating):
        return "missing" if np.isnan(value) else f"{value:.5g}"
    return str(value) or "missing"
