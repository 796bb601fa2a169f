import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.request import SeveralParts, merge_outputs
from slipway.serving.wire.rows import RowPolicy, check_categories
from slipway.serving.wire.v1 import parse_request, write_response

OUTPUTS = (TensorSpec(name="probabilities", dtype="float32", shape=(None, 3)),)
TABLE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="town", dtype="string", shape=(None,)),
        TensorSpec(name="rooms", dtype="int64", shape=(None,)),
    ),
    outputs=OUTPUTS,
)
COLOR = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),), outputs=OUTPUTS)
GREY = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 2, 2, 1)),), outputs=OUTPUTS)
VECTOR = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)),), outputs=OUTPUTS)
CLASSES = ("red", "green", "blue")


def parse(content: object, signature: Signature, **options: object):
    return parse_request(json.dumps(content).encode(), signature, **options)


def encode(width: int, height: int, color: tuple[int, ...] = (9, 8, 7)) -> dict[str, str]:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), color).save(stream, format="PNG")
    return {"b64": base64.b64encode(stream.getvalue()).decode()}


def test_rows_are_named_columns_and_what_is_left_out_is_missing():
    rows = [{"age": 3, "town": "Ulm", "rooms": 2}, {"town": None, "rooms": 1}]
    for content in ({"instances": rows}, {"inputs": {"age": [3, None], "town": ["Ulm", None], "rooms": [2, 1]}}):
        inputs = parse(content, TABLE).inputs
        assert np.array_equal(inputs["age"], np.array([3, np.nan], np.float32), equal_nan=True)
        assert (inputs["town"].tolist(), inputs["rooms"].tolist()) == (["Ulm", ""], [2, 1])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"instances": [{"rooms": 1}, {"agee": 3, "rooms": 1}]}, r"instances\[1\] names the column 'agee'.*is 'age' meant"),
        (
            {"instances": [{"rooms": 1}, {"rooms": 1, "age": "old"}]},
            r"instances\[1\].age is 'old'; accepted: a number that FP32 can hold \(up to 3\.4e\+38\), or null",
        ),
        ({"instances": [{"rooms": 1.5}]}, r"instances\[0\].rooms is 1.5; accepted: an integer\."),
        ({"instances": [{"rooms": True}]}, r"instances\[0\].rooms is true"),
        ({"instances": [{"rooms": 1, "town": ["Ulm"]}]}, r"instances\[0\].town is \['Ulm'\]; accepted: a string"),
        ({"instances": [{"rooms": 1, "age": 1e39}]}, r"instances\[0\].age is 1e\+39"),
        ({"instances": [{"age": 1}]}, r"instances\[0\] lacks rooms"),
        ({"instances": [[1, "Ulm", 2]]}, r"instances\[0\] is \[1, 'Ulm', 2\]; accepted: an object"),
        ({"instances": [{}]}, r"instances\[0\] names no column"),
        ({"instances": []}, "accepted: a list of 1 to 65536 samples"),
        ({"instances": [{"rooms": 1}] * 65537}, "list of 65537; accepted: a list of 1 to 65536"),
        ({"instances": {"rooms": 1}}, "accepted: a list of 1"),
        ({}, "neither instances nor inputs"),
        ({"instances": [], "inputs": []}, "both instances and inputs"),
        ({"inputs": {}}, "inputs names no column of the model; accepted: "),
        ({"inputs": {"age": [1], "rooms": [1, 2]}}, r"different lengths \(age: 1, rooms: 2\)"),
        ({"inputs": {"rooms": 3}}, r"inputs.rooms is 3; accepted: a list"),
        (
            {"inputs": {"rooms": [0] * 65537}},
            "inputs.rooms is list of 65537; accepted: a list with a value for each of 1 to 65536 rows",
        ),
        ({"inputs": {"rooms": []}}, r"inputs.rooms is \[\]; accepted: a list with a value for each of 1 to 65536 rows"),
        ({"inputs": {"room": [3]}}, "names the column 'room'.*is 'rooms' meant"),
        ({"inputs": [1]}, "accepted: an object with a list for each of age, town, rooms"),
        ({"instances": [{"rooms": 1}], "top_k": 0}, "top_k is 0; accepted: a whole number of classes"),
    ],
)
def test_a_bad_row_is_refused_with_its_place_and_column(content, told):
    with pytest.raises(RequestError, match=told):
        parse(content, TABLE)


def test_an_unknown_column_is_passed_over_where_the_policy_says_so():
    rows = {"instances": [{"rooms": 1, "color": [1, 2]}]}
    assert set(parse(rows, TABLE, policy=RowPolicy(unknown_columns="ignore")).inputs) == {"age", "town", "rooms"}


def test_an_unknown_category_is_refused_where_the_policy_says_so():
    inputs = parse({"instances": [{"rooms": 1, "town": "Ulmm"}, {"rooms": 1}]}, TABLE).inputs
    known = {"town": ("Ulm", "Bonn")}
    check_categories(inputs, known, RowPolicy())
    with pytest.raises(RequestError, match=r"column town holds 'Ulmm', which training did not see.*is 'Ulm' meant"):
        check_categories(inputs, known, RowPolicy(unknown_categories="refuse"))


@pytest.mark.parametrize("instance", [[[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]], {"image": [[1, 2], [3, 4]]}])
def test_an_image_may_be_nested_lists_with_or_without_the_channel(instance):
    image = parse({"instances": [instance, instance]}, GREY).inputs["image"]
    assert (image.dtype, image.shape, image[1, 1, 0, 0]) == (np.uint8, (2, 2, 2, 1), 3)


def test_files_and_lists_of_different_sizes_are_parts_that_come_back_in_order():
    request = parse({"instances": [encode(3, 2), [[[1, 2, 3]]], {"image": encode(3, 2, (1, 1, 1))}]}, COLOR)
    with pytest.raises(SeveralParts):
        _ = request.inputs
    assert [part["image"].shape for part in request.parts] == [(2, 2, 3, 3), (1, 1, 1, 3)]
    firsts = [{"y": part["image"][:, 0, 0, 0]} for part in request.parts]
    assert merge_outputs(request, firsts)["y"].tolist() == [9, 1, 1]


def test_lists_of_too_many_sizes_are_refused_before_their_pixels_are_read():
    images = [[["no number"] * width] for width in range(1, 1026)]
    with pytest.raises(RequestError, match="1025 different sizes; accepted: at most 1024"):
        parse({"instances": images}, COLOR)


@pytest.mark.parametrize(
    ("signature", "instance", "told"),
    [
        (COLOR, {"b64": "not base64!"}, r"instances\[0\].b64 is 'not base64!'; accepted: an image file in base64"),
        (COLOR, {"b64": 7}, "b64 is 7"),
        (COLOR, {"b64": base64.b64encode(b"text").decode()}, r"image instances\[0\] cannot be read: it is not a JPEG"),
        (COLOR, {"url": "http://a"}, r"instances\[0\] is \{'url'.*accepted: \{\"b64\""),
        (COLOR, "photo.png", r"instances\[0\] is 'photo.png'"),
        (COLOR, [[[1, 2], [3, 4]]], r"instances\[0\] is nested as \[1, 2, 2\]; accepted: \[any, any, 3\]"),
        (COLOR, [[[1, 2, 3], [4, 5]]], "nested unevenly"),
        (COLOR, [[[1, 2, 256]]], "not an integer from 0 to 255"),
        (COLOR, [[[1, 2, 1.5]]], "not an integer from 0 to 255"),
        (COLOR, [[[]]], "is nested as"),
        (GREY, [[1, 2, 3]], r"is nested as \[1, 3, 1\]; accepted: \[2, 2, 1\]"),
        (GREY, encode(3, 2), r"The image instances\[0\]'s width is 3; accepted: 2"),
        (VECTOR, [1, 2, 3], r"samples of the shape \[3\]; accepted: \[any, 2\]"),
        (VECTOR, [1, "2"], "holds a value that is not a number"),
    ],
)
def test_a_bad_instance_is_refused_with_what_is_accepted(signature, instance, told):
    with pytest.raises(RequestError, match=told):
        parse({"instances": [instance]}, signature)


def test_the_answer_names_label_and_probabilities_and_with_top_k_only_the_most_probable():
    outputs = {"probabilities": np.array([[0.25, 0.0, 0.75], [0.5, 0.25, 0.25]], np.float32)}
    request = parse({"instances": [[1, 2], [3, 4]]}, VECTOR)
    answer = json.loads(write_response(request, outputs, signature=VECTOR, class_names=CLASSES))["predictions"]
    assert answer[0] == {"label": "blue", "probability": 0.75, "probabilities": {"red": 0.25, "green": 0.0, "blue": 0.75}}
    request = parse({"instances": [[1, 2], [3, 4]], "top_k": 2}, VECTOR)
    answer = json.loads(write_response(request, outputs, signature=VECTOR, class_names=CLASSES))["predictions"]
    assert [list(entry["probabilities"].items()) for entry in answer] == [
        [("blue", 0.75), ("red", 0.25)],
        [("red", 0.5), ("green", 0.25)],
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["age", "town", "rooms", "b64", "image", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    signature=st.sampled_from([TABLE, COLOR, GREY, VECTOR]),
    content=st.fixed_dictionaries(
        {}, optional={"instances": JSON_VALUES | st.lists(JSON_VALUES), "inputs": JSON_VALUES, "top_k": JSON_VALUES}
    ),
)
def test_whatever_is_sent_is_parsed_or_refused(signature, content):
    try:
        request = parse(content, signature)
    except RequestError:
        return
    assert request.parts
    assert all(len(array) for part in request.parts for array in part.values())
