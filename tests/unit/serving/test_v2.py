import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.request import all_outputs
from slipway.serving.wire.tensors import DATATYPES
from slipway.serving.wire.v2 import parse_request, write_request, write_response

IMAGE = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
)
TABLE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None, 1)),
        TensorSpec(name="town", dtype="string", shape=(None, 1)),
        TensorSpec(name="rooms", dtype="int64", shape=(None, 1)),
    ),
    outputs=(TensorSpec(name="label", dtype="string", shape=(None,)), TensorSpec(name="score", dtype="float32", shape=(None,))),
)


def ask(entry: dict | None = None, signature: Signature = IMAGE, **changes: object) -> bytes:
    tensor = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [1, 2, 3, 4, 5, 6]} if entry is None else entry
    return json.dumps({"inputs": [{**tensor, **changes}]}).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[[[1, 2, 3], [4, 5, 6]]]]])
def test_data_may_be_flat_or_nested_like_the_shape(data):
    image = parse_request(ask(data=data), IMAGE).inputs["image"]
    assert (image.dtype, image.tolist()) == (np.uint8, [[[[1, 2, 3], [4, 5, 6]]]])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "inputs is null"),
        (b'{"inputs": []}', "lacks image"),
        (b'{"inputs": [3]}', r"inputs\[0\] is 3"),
        (ask(name="picture"), r"inputs\[0\].name is 'picture'; accepted: image"),
        (ask(name=None), "name is null"),
        (ask(datatype="FP32"), "datatype is 'FP32'; accepted: UINT8"),
        (ask(datatype=None), "datatype is null"),
        (ask(shape=[1, 2, 3]), r"accepted: \[any, any, any, 3\]"),
        (ask(shape=[1, 1, 6, 1]), r"accepted: \[any, any, any, 3\]"),
        (ask(shape=[0, 1, 2, 3], data=[]), "each 1 or more"),
        (ask(shape=[True, 1, 2, 3]), "shape is"),
        (ask(shape=[1, 2**40, 2**40, 3]), "has 6 values"),
        (ask(shape=[2**40, 1, 2, 3]), "at most 65536 samples"),
        (ask(shape="1"), "shape is '1'"),
        (ask(data=[1, 2, 3]), "has 3 values"),
        (ask(data=[[1, 2, 3], [4, 5, 6]]), r"nested as \[2, 3\]"),
        (ask(data=[[1, 2, 3], [4, 5]]), "unevenly"),
        (ask(data=None), "data is null"),
        (ask(data=[1, 2, 3, 4, 5, 256]), "not an integer from 0 to 255"),
        (ask(data=[1, 2, 3, 4, 5, -1]), "not an integer from 0 to 255"),
        (ask(data=[1, 2, 3, 4, 5, 6.5]), "not an integer"),
        (ask(data=[1, 2, 3, 4, 5, "6"]), "not an integer"),
        (ask(data=[1, 2, 3, 4, 5, None]), "not an integer"),
        (ask(data=[True] * 6), "not an integer"),
        (json.dumps({"id": 7, "inputs": []}).encode(), "id is 7"),
        (ask()[:-1] + b', "outputs": [{"name": "logits"}]}', r"outputs\[0\].name is 'logits'; accepted: probabilities"),
        (ask()[:-1] + b', "outputs": 3}', "outputs is 3"),
        (
            ask()[:-1] + b', "parameters": {"timeout": "1"}}',
            r"parameters.timeout is '1'; accepted: a whole number of microseconds",
        ),
        (ask()[:-1] + b', "parameters": {"timeout": 1.5}}', "parameters.timeout is 1.5"),
        (ask()[:-1] + b', "parameters": {"timeout": true}}', "parameters.timeout is true"),
        (ask()[:-1] + b', "parameters": {"timeout": null}}', "parameters.timeout is null"),
        (ask()[:-1] + b', "parameters": {"timeout": -1}}', "parameters.timeout is -1"),
        (ask()[:-1] + b', "parameters": {"timeout": 86400000001}}', "at most 86400000000, or 0 for none"),
        (b'{"inputs": [' + ask()[12:-2] + b"," + ask()[12:-2] + b"]}", "stands twice"),
    ],
)
def test_a_bad_request_is_refused_with_the_field_and_what_is_accepted(body, told):
    with pytest.raises(RequestError, match=told):
        parse_request(body, IMAGE)


@pytest.mark.parametrize(("microseconds", "seconds"), [(0, None), (1, 1e-6), (1_500_000, 1.5), (86_400_000_000, 86_400.0)])
def test_a_request_may_state_how_long_its_client_waits(microseconds, seconds):
    body = ask()[:-1] + b', "parameters": {"timeout": %d}}' % microseconds
    assert parse_request(body, IMAGE).timeout_seconds == seconds
    assert parse_request(ask(), IMAGE).timeout_seconds is None


def test_the_most_probable_classes_are_only_of_outputs_that_hold_probabilities():
    request = parse_request(table_request(age=[1], town=["Ulm"], rooms=[1]), TABLE, top_k=2)
    assert [output.top_k for output in request.outputs] == [0, 0] == [output.top_k for output in all_outputs(TABLE, top_k=2)]
    assert [output.top_k for output in all_outputs(IMAGE, top_k=2)] == [2]


def table_request(**data: list) -> bytes:
    datatypes = {spec.name: DATATYPES[spec.dtype] for spec in TABLE.inputs}
    inputs = [
        {"name": name, "shape": [len(data[name]), 1], "datatype": datatypes[name], "data": data[name]} for name in datatypes
    ]
    return json.dumps({"inputs": inputs}).encode()


def test_missing_values_of_a_table_are_null():
    inputs = parse_request(table_request(age=[None, 3], town=["Ulm", None], rooms=[1, 2]), TABLE).inputs
    assert math.isnan(inputs["age"][0, 0])
    assert inputs["age"][1, 0] == 3.0
    assert inputs["town"].tolist() == [["Ulm"], [""]]
    assert inputs["rooms"].dtype == np.int64


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"age": ["3"], "town": ["Ulm"], "rooms": [1]}, "age.*not a number"),
        ({"age": [1e39], "town": ["Ulm"], "rooms": [1]}, "age.*FP32 can hold"),
        ({"age": [3.0], "town": [4], "rooms": [1]}, "town.*not a string"),
        ({"age": [3.0], "town": ["Ulm"], "rooms": [2**63]}, "rooms.*not an integer"),
        ({"age": [3.0, 4.0], "town": ["Ulm"], "rooms": [1]}, "differ in their first axis"),
    ],
)
def test_a_tables_bad_value_is_refused_by_its_column(data, told):
    with pytest.raises(RequestError, match=told):
        parse_request(table_request(**data), TABLE)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    ages=arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(1)), elements=st.floats(width=32, allow_infinity=False)),
    data=st.data(),
)
def test_what_a_client_writes_is_what_the_server_reads(ages, data):
    shape = ages.shape
    towns = data.draw(arrays.arrays(object, shape, elements=st.text(st.characters(exclude_categories=["Cs"]))))
    rooms = data.draw(arrays.arrays(np.int64, shape))
    inputs = {"age": ages, "town": towns, "rooms": rooms}
    parsed = parse_request(write_request(inputs, TABLE), TABLE).inputs
    for name, array in inputs.items():
        np.testing.assert_array_equal(parsed[name], array)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "shape", "data", "inputs"]), inner),
    max_leaves=12,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    field=st.sampled_from(["name", "shape", "datatype", "data"]),
    value=JSON_VALUES,
    whole=JSON_VALUES,
    where=st.sampled_from(["field", "entry", "inputs", "outputs", "body"]),
)
def test_whatever_is_sent_is_parsed_or_refused(field, value, whole, where):
    tensor = json.loads(ask())["inputs"][0]
    body: object = {
        "field": {"inputs": [{**tensor, field: value}]},
        "entry": {"inputs": [tensor, whole]},
        "inputs": {"inputs": whole},
        "outputs": {"inputs": [tensor], "outputs": whole},
        "body": whole,
    }[where]
    try:
        request = parse_request(json.dumps(body).encode(), IMAGE)
    except RequestError:
        return
    assert request.inputs["image"].dtype == np.uint8
    assert request.inputs["image"].shape[3] == 3


def test_the_answer_holds_the_outputs_that_were_asked_for():
    request = parse_request(
        table_request(age=[1], town=["Ulm"], rooms=[1])[:-1] + b', "id": "a", "outputs": [{"name": "score"}]}', TABLE
    )
    outputs = {"label": np.array(["yes"], dtype=object), "score": np.array([np.nan], dtype=np.float32)}
    answer = json.loads(write_response(request, outputs, signature=TABLE, name="house", version="3")[0])
    assert answer == {
        "model_name": "house",
        "model_version": "3",
        "id": "a",
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [1], "data": [None]}],
    }
