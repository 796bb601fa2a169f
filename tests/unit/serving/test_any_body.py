"""V1 and V2 bodies of every form, as any client may write them, and the same with something wrong."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire import v1, v2
from slipway.serving.wire.request import merge_inputs
from slipway.serving.wire.tensors import DATATYPES
from tests.serving.odd_requests import mutated_bytes, mutated_json

OUTPUTS = (TensorSpec(name="probabilities", dtype="float32", shape=(None, 3)),)
COLOR = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 3)),), outputs=OUTPUTS)
GREY = Signature(inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, None, None, 1)),), outputs=OUTPUTS)
VECTOR = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(None, None)),), outputs=OUTPUTS)
PAIR = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)), TensorSpec(name="n", dtype="int64", shape=(None, 3))),
    outputs=OUTPUTS,
)
TABLE = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="town", dtype="string", shape=(None,)),
        TensorSpec(name="rooms", dtype="int64", shape=(None,)),
    ),
    outputs=OUTPUTS,
)
LARGE_SIDE = 80
"""Of an image whose pixels are not parsed one by one."""
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(0, 255).map(float)


@dataclass(frozen=True)
class Case:
    """A body, and what stands in it."""

    parse: Any
    signature: Signature
    body: bytes
    inputs: dict[str, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    signature = draw(st.sampled_from([COLOR, GREY, VECTOR, PAIR, TABLE]))
    num_samples, sides = draw(st.integers(1, 3)), (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    if draw(st.integers(0, 4)) == 0:
        num_samples, sides = 1, (LARGE_SIDE, LARGE_SIDE)
    inputs = {spec.name: draw_tensor(draw, spec, num_samples, sides) for spec in signature.inputs}
    is_v1 = draw(st.booleans())
    content = draw_v1(draw, inputs) if is_v1 else draw_v2(draw, inputs, signature)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,\t", " : ")]))
    body = json.dumps(content, separators=separators, ensure_ascii=draw(st.booleans())).encode()
    return Case(v1.parse_request if is_v1 else v2.parse_request, signature, body, inputs)


def draw_tensor(draw: st.DrawFn, spec: TensorSpec, num_samples: int, sides: tuple[int, int]) -> np.ndarray:
    shape = [num_samples, *(size or side for size, side in zip(spec.shape[1:], (*sides, 1), strict=False))]
    if spec.dtype == "uint8":
        return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape, dtype=np.uint8)
    size = int(np.prod(shape))
    values = {"float32": FLOATS, "int64": st.integers(-(2**63), 2**63 - 1), "string": TEXT}[spec.dtype]
    array = np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=object).reshape(shape)
    return array if spec.dtype == "string" else array.astype(spec.dtype)


def draw_v1(draw: st.DrawFn, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    values = {name: array.tolist() for name, array in inputs.items()}
    form = draw(st.sampled_from(["samples", "columns", "values"]))
    if form == "columns":
        return {"inputs": values}
    if form == "values" and len(values) == 1:
        return {draw(st.sampled_from(["inputs", "instances"])): next(iter(values.values()))}
    return {"instances": [dict(zip(values, sample, strict=True)) for sample in zip(*values.values(), strict=True)], "top_k": 2}


def draw_v2(draw: st.DrawFn, inputs: dict[str, np.ndarray], signature: Signature) -> dict[str, Any]:
    tensors = []
    for spec in signature.inputs:
        array = inputs[spec.name]
        data = array.tolist() if draw(st.booleans()) else array.ravel().tolist()
        tensors.append({"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(array.shape), "data": data})
    more = draw(st.sampled_from([{}, {"id": '"data":[1]'}, {"parameters": {"data": [1], "binary_data_output": True}}]))
    return {**more, "inputs": draw(st.permutations(tensors)), "outputs": draw(st.sampled_from([[], [{"name": "probabilities"}]]))}


def read(case: Case, body: bytes) -> dict[str, np.ndarray]:
    request = case.parse(body, case.signature)
    assert all(array.dtype != object or spec_of(case, name).dtype == "string" for name, array in request.parts[0].items())
    return dict(merge_inputs(request))


def spec_of(case: Case, name: str) -> TensorSpec:
    return next(spec for spec in case.signature.inputs if spec.name == name)


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_body_of_any_form_is_read_to_the_last_bit(case):
    parsed = read(case, case.body)
    assert parsed.keys() == case.inputs.keys()
    for name, expected in case.inputs.items():
        assert parsed[name].dtype == expected.dtype
        np.testing.assert_array_equal(parsed[name], expected)


@settings(derandomize=True, max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases(), data=st.data())
def test_a_body_with_something_changed_is_read_or_refused(case, data):
    body = data.draw(st.one_of(mutated_bytes(case.body), mutated_json(case.body)))
    try:
        parsed = read(case, body)
    except RequestError:
        return
    assert parsed.keys() == case.inputs.keys()
    assert len({len(array) for array in parsed.values()}) == 1
