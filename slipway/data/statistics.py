"""What the train split says of each feature."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from slipway.data.manifest import Feature, FeatureStatistics


def describe_images(feature: str, histogram: NDArray[np.int64]) -> FeatureStatistics:
    """Exact figures from how often each value occurs in each channel [channels, 256]."""
    values = np.arange(histogram.shape[1], dtype=np.float64)
    counts = histogram.sum(axis=1)
    mean = histogram @ values / counts
    variance = (histogram * (values - mean[:, np.newaxis]) ** 2).sum(axis=1) / counts
    present = np.flatnonzero(histogram.sum(axis=0))
    return FeatureStatistics(
        feature=feature,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, np.sqrt(variance))),
        minimum=float(present[0]),
        maximum=float(present[-1]),
    )


def describe_column(feature: Feature, column: pa.ChunkedArray) -> FeatureStatistics:
    """Mean and deviation, or categories. A numeric column without any value has mean 0, std 0 and no minimum."""
    if feature.role == "categorical":
        categories = sorted(value for value in pc.unique(column).to_pylist() if value is not None)
        return FeatureStatistics(feature=feature.name, categories=tuple(categories), num_missing=column.null_count)
    values = column.to_numpy().astype(np.float64)
    present = values[~np.isnan(values)]
    num_missing = len(values) - len(present)
    if not len(present):
        return FeatureStatistics(feature=feature.name, mean=(0.0,), std=(0.0,), num_missing=num_missing)
    return FeatureStatistics(
        feature=feature.name,
        mean=(float(present.mean()),),
        std=(float(present.std()),),
        minimum=float(present.min()),
        maximum=float(present.max()),
        num_missing=num_missing,
    )
