import numpy as np
import pytest

from slipway.serving.observe.distribution import Distribution


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 1.5, 2.0, 7.0])
def test_a_value_is_counted_alike_by_itself_and_among_others_and_a_bound_is_part_of_its_bucket(value):
    alone, among = Distribution((0.5, 1, 2)), Distribution((0.5, 1, 2))
    alone.add(value)
    among.add_all(np.array([value], np.float32))
    assert alone.buckets() == among.buckets()
    assert alone.total == among.total == value
    assert alone.buckets() == [(name, float(value <= float(name))) for name in ("0.5", "1.0", "2.0", "+Inf")]
