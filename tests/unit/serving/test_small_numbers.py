import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire import small_numbers
from slipway.serving.wire.small_numbers import cut_lists
from slipway.serving.wire.v2 import parse_request

SIDE = 64
SOME = b"0,1, 9,10,99,100,199,200,249,255," * 600
MANY = 4 * SOME
OUTPUTS = (TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),)
IMAGE = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),), outputs=OUTPUTS)
SEVERAL = Signature(
    inputs=(
        TensorSpec(name="image", dtype="uint8", shape=(None, SIDE, SIDE, 3)),
        TensorSpec(name="depth", dtype="float32", shape=(None, SIDE, SIDE, 3)),
        TensorSpec(name="count", dtype="int64", shape=(None, SIDE, SIDE, 3)),
    ),
    outputs=OUTPUTS,
)
DATATYPES = {"image": "UINT8", "depth": "FP32", "count": "INT64"}


def draw_pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def describe(name: str, pixels: np.ndarray, **changes: object) -> dict:
    shape = list(pixels.shape)
    return {"name": name, "datatype": DATATYPES[name], "shape": shape, "data": pixels.ravel().tolist(), **changes}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (", ", " :\n\t\r ")])
def test_the_data_of_each_tensor_is_taken_and_the_rest_left_as_it_is(separators):
    pixels = draw_pixels()
    content = {"id": "a", "inputs": [describe("image", pixels), describe("count", pixels, data=[1.5]), describe("depth", pixels)]}
    text, lists = cut_lists(json.dumps(content, separators=separators).encode())
    assert len(text) < 1000
    cut = json.loads(text)
    assert cut["inputs"][1] == content["inputs"][1]
    for position in (0, 2):
        values = lists[cut["inputs"][position]["data"]]
        assert (values.dtype, values.tolist()) == (np.uint8, content["inputs"][position]["data"])


@settings(derandomize=True, max_examples=500, deadline=None)
@given(
    end=st.one_of(
        st.text("0125689, ", max_size=12),
        st.text('0019,.eE+-"\\[]{}:ntru\n\t\xa0', max_size=8),
        st.lists(st.integers(0, 255), min_size=1).map(lambda values: ", ".join(map(str, values))),
    ),
    at_the_beginning=st.booleans(),
)
def test_a_list_is_read_as_json_reads_it_or_not_at_all(end, at_the_beginning):
    inner = end.encode() + b"," + SOME[:-1] if at_the_beginning else SOME + end.encode()
    body = b'{"data":[' + inner + b"]}"
    text, lists = cut_lists(body)
    if not lists:
        assert text == body
        return
    content = read(text)
    if content is not None:
        content = {key: lists[value].tolist() if value in lists else value for key, value in content.items()}
    assert content == read(body)


def read(text: bytes) -> dict | None:
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize("end", ["0", "255", "7,0,10,100", "1, 2, 3"])
def test_whatever_numbers_a_list_ends_with_it_is_taken(end):
    assert len(cut_lists(b'{"data":[' + MANY + end.encode() + b"]}")[1]) == 1


def test_long_lists_of_other_types_have_the_values_that_short_ones_have():
    inputs = {name: draw_pixels(seed) for seed, name in enumerate(DATATYPES)}
    body = json.dumps({"inputs": [describe(name, pixels) for name, pixels in inputs.items()]}).encode()
    assert len(cut_lists(body)[1]) == 3
    parsed = parse_request(body, SEVERAL).inputs
    assert {name: array.dtype.name for name, array in parsed.items()} == {"image": "uint8", "depth": "float32", "count": "int64"}
    for name, pixels in inputs.items():
        np.testing.assert_array_equal(parsed[name], pixels)


ROW = ",".join(["7"] * (SIDE * SIDE * 3 - 1))
PREFIX = '{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,64,64,3],'


@pytest.mark.parametrize(
    "body",
    [
        *(
            f'{PREFIX}"data":[{ROW},{last}]}}]}}'
            for last in ("256", "-1", "1.5", "1e1", "true", "null", '"6"', "01", "", "1,2", "[7]", "NaN", "1 2", "1000000000000")
        ),
        f'{PREFIX}"data":[{ROW}]}}]}}',
        f'{PREFIX}"data":[{ROW},7]}}',
        f'{PREFIX}"data":[{ROW},7',
        f'{PREFIX}"data":[{ROW},7],"data":[{ROW},7]}}]}}',
        f'{PREFIX}"data":[{ROW},7],"parameters":{{"binary_data_size":3}}}}]}}',
        f'{PREFIX}"a\\"data":[{ROW},7]}}]}}',
        f'{PREFIX}"data":{{"data":[{ROW},7]}}}}]}}',
        f'{{"inputs":[{{"name":{{"data":[{ROW},7]}}}}]}}',
        f'{{"id":{{"data":[{ROW},7]}},"inputs":[]}}',
        f'{{"inputs":{{"data":[{ROW},7]}}}}',
        f'{PREFIX.replace("UINT8", "FP32")}"data":[{ROW},7]}}]}}',
        f'{PREFIX}"data":[{ROW},7]}}],"outputs":{{"data":[{ROW},7]}}}}',
        '"data":[' * 20_000,
        '{"inputs":' + '"data":[' * 20_000 + "]}",
    ],
)
def test_what_is_wrong_with_a_long_list_is_said_as_of_a_short_one(monkeypatch, body):
    with pytest.raises(RequestError) as told:
        parse_request(body.encode(), IMAGE)
    monkeypatch.setattr(small_numbers, "_MIN_BYTES", len(body) + 1)
    with pytest.raises(RequestError) as expected:
        parse_request(body.encode(), IMAGE)
    assert str(told.value) == str(expected.value)


def test_a_string_that_looks_like_data_stays_a_string():
    note = f'"data":[{ROW},7]'
    for key in ("note", 'x"data', '\\"data":[1]'):
        body = json.dumps({key: note, "inputs": [describe("image", draw_pixels())]}).encode()
        text, lists = cut_lists(body)
        assert len(lists) == 1
        assert json.loads(text)[key] == note
        np.testing.assert_array_equal(parse_request(body, IMAGE).inputs["image"], draw_pixels())


def test_only_so_many_lists_are_looked_at_as_a_request_could_have_inputs():
    long = b'"data":[' + b"7," * 9000 + b"7]"
    text = b'{"a":[' + b'{"data":[]},' * 1023 + b"{" + long + b"},{" + long + b"}]}"
    cut, lists = cut_lists(text)
    assert [len(values) for values in lists.values()] == [9001]
    assert cut.endswith(b"},{" + long + b"}]}")
