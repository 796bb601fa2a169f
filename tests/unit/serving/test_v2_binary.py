import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.rows import RowPolicy
from slipway.serving.wire.v2 import parse_request, write_response
from slipway.serving.wire.v2_binary import read_raw, to_bytes

TABLE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="town", dtype="string", shape=(None,)),
        TensorSpec(name="rooms", dtype="int64", shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),
        TensorSpec(name="word", dtype="string", shape=(None,)),
    ),
)
PIXELS = TensorSpec(name="image", dtype="float32", shape=(None, 2, 2))
TAIL = np.array([1.5], "<f4").tobytes() + b"\x05\0\0\0K\xc3\xb6ln" + np.array([-7], "<i8").tobytes()


def ask(*, tail: bytes = TAIL, sizes: tuple[object, ...] = (4, 9, 8), **more: object) -> tuple[bytes, int]:
    names = zip(("age", "town", "rooms"), ("FP32", "BYTES", "INT64"), sizes, strict=True)
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": size}}
        for name, datatype, size in names
    ]
    header = json.dumps({"inputs": inputs, **more}).encode()
    return header + tail, len(header)


def test_raw_tensors_stand_behind_the_json_in_the_order_of_the_inputs():
    body, size = ask()
    inputs = parse_request(body, TABLE, json_size=size).inputs
    assert (inputs["age"].tolist(), inputs["town"].tolist(), inputs["rooms"].tolist()) == ([1.5], ["Köln"], [-7])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sizes": (3, 9, 8)}, r"age.*has 3 bytes; its shape \[1\] takes 4"),
        ({"sizes": (-4, 9, 8)}, "binary_data_size is -4; accepted: a number of bytes"),
        ({"sizes": (2**40, 9, 8)}, "21 bytes are left behind the JSON"),
        ({"sizes": (True, 9, 8)}, "binary_data_size is true"),
        ({"sizes": ("4", 9, 8)}, "binary_data_size is '4'"),
        ({"tail": TAIL[:-1]}, r"rooms.*is 8; 7 bytes are left"),
        ({"tail": TAIL + b"xyz"}, "3 bytes behind the JSON belong to no input"),
        ({"tail": TAIL[:4] + b"\xff\xff\xff\xff" + TAIL[8:]}, "a string has 4294967295 bytes; 5 are left"),
        ({"tail": TAIL[:4] + b"\x01\0\0" + TAIL[13:], "sizes": (4, 3, 8)}, "town.*breaks off in a string's length"),
        ({"tail": TAIL[:4] + TAIL[13:], "sizes": (4, 0, 8)}, "town.*has 0 strings; its shape takes 1"),
        (
            {"tail": TAIL[:13] + b"\0" + TAIL[13:], "sizes": (4, 10, 8)},
            "town.*has 1 bytes more than the strings that its shape takes",
        ),
        ({"tail": TAIL[:8] + b"\xff\xff\xff\xff\xff" + TAIL[13:]}, "not UTF-8"),
        ({"tail": np.array([np.inf], "<f4").tobytes() + TAIL[4:]}, "age.*not a number that FP32 can hold"),
    ],
)
def test_lengths_that_lie_and_bytes_that_break_off_are_refused_by_their_tensor(changes, told):
    body, size = ask(**changes)
    with pytest.raises(RequestError, match=told):
        parse_request(body, TABLE, json_size=size)


@pytest.mark.parametrize("json_size", [0, 10**6])
def test_a_header_that_lies_about_the_json_is_refused(json_size):
    with pytest.raises(RequestError, match=f"Inference-Header-Content-Length is {json_size} and the body has"):
        parse_request(ask()[0], TABLE, json_size=json_size)


def test_nan_is_a_missing_value_in_a_column_and_nothing_anywhere_else():
    body, size = ask(tail=np.array([np.nan], "<f4").tobytes() + TAIL[4:])
    assert np.isnan(parse_request(body, TABLE, json_size=size).inputs["age"][0])
    with pytest.raises(RequestError, match="holds a value that is not a number"):
        read_raw(memoryview(np.full((1, 2, 2), np.nan, "<f4").tobytes()), PIXELS, (1, 2, 2), "inputs[0]")


def test_an_unknown_column_is_passed_over_with_its_bytes_where_the_policy_says_so():
    more = {"name": "color", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 3}}
    body, size = ask()
    content = json.loads(body[:size])
    content["inputs"].insert(1, more)
    header = json.dumps(content).encode()
    packed = header + TAIL[:4] + b"abc" + TAIL[4:]
    with pytest.raises(RequestError, match=r"inputs\[1\].name is 'color'"):
        parse_request(packed, TABLE, json_size=len(header))
    inputs = parse_request(packed, TABLE, json_size=len(header), policy=RowPolicy(unknown_columns="ignore")).inputs
    assert inputs["town"].tolist() == ["Köln"]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    numbers=arrays.arrays(
        np.float32, arrays.array_shapes(max_dims=1), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    ),
    strings=arrays.arrays(object, arrays.array_shapes(max_dims=1), elements=st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_what_is_written_as_bytes_is_read_again(numbers, strings):
    for array, spec in ((numbers, TABLE.inputs[0]), (strings, TABLE.inputs[1])):
        again = read_raw(memoryview(to_bytes(array)), spec, array.shape, "inputs[0]")
        np.testing.assert_array_equal(again, array)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(tail=st.binary(max_size=60), sizes=st.tuples(*[st.integers(-2, 40)] * 3), json_size=st.integers(-1, 400))
def test_whatever_stands_behind_the_json_is_read_or_refused(tail, sizes, json_size):
    body, size = ask(tail=tail, sizes=sizes)
    for stated in (size, json_size):
        try:
            inputs = parse_request(body, TABLE, json_size=stated).inputs
        except RequestError:
            continue
        assert all(array.shape == (1,) for array in inputs.values())


def test_each_output_comes_as_json_as_bytes_or_as_classes_as_it_was_asked_for():
    outputs = {"probabilities": np.array([[0.25, 0.75]], np.float32), "word": np.array(["ja"], dtype=object)}
    classes = {"name": "probabilities", "parameters": {"classification": 1, "binary_data": False}}
    body, size = ask(parameters={"binary_data_output": True}, outputs=[classes, {"name": "word"}])
    request = parse_request(body, TABLE, json_size=size)
    answer, json_size = write_response(request, outputs, signature=TABLE, name="house", version="3", class_names=("no", "yes"))
    first, second = json.loads(answer[:json_size])["outputs"]
    assert (first["datatype"], first["shape"], first["data"]) == ("BYTES", [1, 1], ["0.750000:1:yes"])
    assert second["parameters"] == {"binary_data_size": 6}
    assert answer[json_size:] == b"\x02\0\0\0ja"
