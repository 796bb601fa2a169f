import numpy as np
import pyarrow as pa
import pytest

from slipway.batch.columns import convert_column
from slipway.export.signature import TensorSpec


@pytest.mark.parametrize("form", [list, pa.array])
def test_an_integer_that_64_bits_do_not_hold_as_a_float_is_refused_and_never_wraps(form):
    values = [2**63 - 1024, 2**63 - 1, -(2**63)]
    converted, wrong = convert_column(form(values), TensorSpec(name="id", dtype="int64", shape=(None,)))
    assert list(wrong) == [1]
    assert "accepted: an integer from -2**63 to 2**63 - 1024" in wrong[1]
    np.testing.assert_array_equal(converted[[0, 2]], [2**63 - 1024, -(2**63)])
