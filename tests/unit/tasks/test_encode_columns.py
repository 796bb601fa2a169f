import pytest
import torch

from slipway.data.manifest import Feature, FeatureStatistics
from slipway.tasks.tabular_classification.training import EncodeColumns


@pytest.mark.parametrize("std", [0.0, 1e-42, 1e-30, 1.0, 1e30])
def test_a_number_that_equals_the_mean_becomes_zero_and_any_other_is_finite_whatever_the_deviation(std):
    feature = Feature(name="x", role="numeric", dtype="float32", shape=())
    encode = EncodeColumns([(feature, FeatureStatistics(feature="x", mean=(2.0,), std=(std,), num_missing=1))])
    encoded = encode({"x": torch.tensor([2.0, 3.0, -3e38, float("nan")])})
    assert encoded.isfinite().all()
    assert encoded[0].tolist() == [0.0, 0.0]
    assert encoded[3].tolist() == [0.0, 1.0]
