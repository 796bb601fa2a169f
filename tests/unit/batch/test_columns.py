import json
from decimal import Decimal

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.batch.columns import convert_column, convert_json
from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.v1 import parse_request

FEW = {
    "int64": [2**53 + 1, 2**63 - 1, -(2**63), 7],
    "uint8": [0, 255, 7],
    "float32": [0.5, 7, None, -(2**70)],
    "string": ["7", "", None, "Oslo"],
}
OTHERS = [256, -1, 2**63, 2**64, 7.0, 1e39, True, False, "nan", [7], [], {}, {"id": 7}, None, 0.5, "7"]


def spec(dtype):
    return TensorSpec(name="id", dtype=dtype, shape=(None,))


@pytest.mark.parametrize("values", [[2**53 + 1, 2**63 - 1, -(2**63)], [Decimal(2**53 + 1), Decimal("5.00")]])
def test_an_integer_of_64_bits_arrives_as_it_is(values):
    expected = [int(value) for value in values]
    for column in (pa.array(values), pa.array([str(value) for value in expected])):
        converted, wrong = convert_column(column, spec("int64"))
        assert (converted.tolist(), wrong) == (expected, {})


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["5", "9223372036854775808", "+5", "5.0", "9007199254740993.0", "1e3"]), [5, None, 5, 5, 2**53 + 1, 1000]),
        (pa.array(["5", "0x10", "1_000", "5.5", "nan", "inf", "", "1e999999999", "1e-999999999", None]), [5] + [None] * 9),
        (pa.array([2**63, 5], pa.uint64()), [None, 5]),
        (pa.array([2.0**53, 2.0**63, -(2.0**63), 0.5, float("nan"), None]), [2**53, None, -(2**63), None, None, None]),
        (pa.array([Decimal("5.50"), Decimal("6.00"), Decimal(10) ** 20]), [None, 6, None]),
        (pa.array([True, False]), [None, None]),
        (pa.array([1, 2], pa.timestamp("s")), [None, None]),
        (pa.array([b"1"]), [None]),
        (pa.array(["5", "x"]).dictionary_encode(), [5, None]),
    ],
)
def test_what_is_no_integer_of_64_bits_is_refused_and_costs_no_other_value_its_digits(column, expected):
    converted, wrong = convert_column(column, spec("int64"))
    assert [None if place in wrong else value for place, value in enumerate(converted.tolist())] == expected
    assert all("accepted: an integer from -9223372036854775808 to 9223372036854775807" in reason for reason in wrong.values())
    for place, value in enumerate(expected):
        alone, refused = convert_column(column.slice(place, 1), spec("int64"))
        assert (None if refused else alone.tolist()[0]) == value


@pytest.mark.parametrize("column", [pa.array([0, 256, 255, -1]), pa.array(["0", "256", "255", "-1"])])
def test_a_byte_never_wraps(column):
    converted, wrong = convert_column(column, spec("uint8"))
    assert sorted(wrong) == [1, 3]
    np.testing.assert_array_equal(converted[[0, 2]], [0, 255])


@pytest.mark.parametrize("value", [True, 1e39, "1_000", "0x10", b"1", "Oslo"])
def test_what_is_no_number_is_refused_beside_numbers_and_alone(value):
    column = pa.array([value])
    assert list(convert_column(column, spec("float32"))[1]) == [0]
    if isinstance(value, str):
        assert list(convert_column(pa.array([value, "1"]), spec("float32"))[1]) == [0]


@given(
    st.sampled_from(list(FEW)).flatmap(lambda dtype: st.tuples(st.just(dtype), st.lists(st.sampled_from(FEW[dtype] + OTHERS))))
)
@example(("int64", [7, True]))
@example(("float32", [0.5, True]))
def test_a_value_in_json_is_read_as_the_predictor_reads_it(drawn):
    dtype, values = drawn
    signature = Signature(inputs=(spec(dtype),), outputs=())
    converted, wrong = convert_json([orjson.loads(json.dumps(value)) for value in values], spec(dtype))
    assert converted.dtype == (object if dtype == "string" else np.dtype(dtype))
    for place, value in enumerate(values):
        body = json.dumps({"instances": [{"id": value}]}).encode()
        if place in wrong:
            assert "accepted: " in wrong[place]
            with pytest.raises(RequestError):
                parse_request(body, signature)
        else:
            np.testing.assert_array_equal(parse_request(body, signature).parts[0]["id"], converted[[place]])
