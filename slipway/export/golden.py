"""Golden examples: real inputs with the outputs expected of them, and what counts as the same answer."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.export.precision import Precision, PrecisionInfo, Tolerance

FP32_TOLERANCE = 1e-3
"""Largest absolute difference of an output in fp32 between two machines."""
UNSTATED_TOLERANCE = Tolerance(absolute=0.05, relative=0.5)
"""From the outputs in fp32, for a precision that was asked for and that the bundle says nothing of."""


@dataclass(frozen=True, kw_only=True)
class GoldenExample:
    """One real input and the answer expected of it; arrays keep the batch axis, of size 1."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    """In fp32."""
    reduced: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    """In the other precisions that are kept, by precision."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What an example's right answer is, in one precision."""

    precision: Precision
    outputs: dict[str, NDArray[Any]]
    tolerance: Tolerance


def expect_answer(
    example: GoldenExample, precisions: Iterable[PrecisionInfo], precision: Precision, *, fp32_tolerance: float = FP32_TOLERANCE
) -> Expectation:
    """The answer that an example must get from a model in `precision`.

    Args:
        example: Of the bundle.
        precisions: That the bundle states.
        precision: That the model is computed in.
        fp32_tolerance: Largest absolute difference that is accepted in fp32.
    """
    if precision == "fp32":
        return Expectation(
            precision=precision, outputs=example.outputs, tolerance=Tolerance(absolute=fp32_tolerance, relative=0.0)
        )
    stated = next((entry for entry in precisions if entry.precision == precision), None)
    if stated is None or stated.tolerance is None or precision not in example.reduced:
        return Expectation(precision=precision, outputs=example.outputs, tolerance=UNSTATED_TOLERANCE)
    return Expectation(precision=precision, outputs=example.reduced[precision], tolerance=stated.tolerance)


def find_fault(given: Mapping[str, NDArray[Any]], expected: Expectation) -> str:
    """What is wrong with an answer, as the end of a sentence that begins with a colon; "" where nothing is."""
    if set(given) != set(expected.outputs):
        return f"the outputs are {', '.join(given)}; expected: {', '.join(expected.outputs)}"
    for name, wanted in expected.outputs.items():
        fault = _find_output_fault(given[name], wanted, expected.tolerance)
        if fault:
            return f"{name}: {fault}"
    return ""


def largest_difference(given: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> float:
    """The largest absolute difference of a number, over all outputs of the same names and shapes; NaN where one is."""
    floats = [name for name, array in expected.items() if array.dtype.kind == "f"]
    differences = [np.abs(given[name].astype(np.float64) - expected[name]).max(initial=0.0) for name in floats]
    return float(np.max(differences)) if differences else 0.0


def encode_example(example: GoldenExample) -> dict[str, Any]:
    """As it stands in `golden.json`."""
    reduced = {precision: _encode_all(outputs) for precision, outputs in example.reduced.items()}
    return {"inputs": _encode_all(example.inputs), "outputs": _encode_all(example.outputs), "reduced": reduced}


def decode_example(entry: dict[str, Any]) -> GoldenExample:
    """The inverse of `encode_example`; KeyError, TypeError or ValueError where it is damaged."""
    reduced = {precision: _decode_all(outputs) for precision, outputs in entry.get("reduced", {}).items()}
    return GoldenExample(inputs=_decode_all(entry["inputs"]), outputs=_decode_all(entry["outputs"]), reduced=reduced)


def _find_output_fault(given: NDArray[Any], wanted: NDArray[Any], tolerance: Tolerance) -> str:
    if given.shape != wanted.shape:
        return f"the shape is {list(given.shape)}; expected: {list(wanted.shape)}"
    if wanted.dtype.kind != "f":
        if np.array_equal(given, wanted):
            return ""
        return f"the answer is {given.ravel().tolist()!r:.200}; expected: {wanted.ravel().tolist()!r:.200}"
    differences = np.abs(given.astype(np.float64) - wanted)
    allowed = tolerance.absolute + tolerance.relative * np.abs(wanted)
    if np.all(differences <= allowed):  # NaN too is a difference
        return ""
    worst = np.argmax(np.where(np.isnan(differences), np.inf, differences - allowed))
    return f"the answer differs by {differences.flat[worst]:.3g}; accepted: {allowed.flat[worst]:.3g}"


def _encode_all(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: _encode(array) for name, array in arrays.items()}


def _decode_all(entries: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: _decode(entry) for name, entry in entries.items()}


def _encode(array: NDArray[Any]) -> dict[str, Any]:
    shape = list(array.shape)
    if array.dtype == object:
        return {"dtype": "string", "shape": shape, "values": ["" if value is None else str(value) for value in array.ravel()]}
    return {"dtype": array.dtype.name, "shape": shape, "base64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


def _decode(entry: dict[str, Any]) -> NDArray[Any]:
    if entry["dtype"] == "string":
        return np.array(entry["values"], dtype=object).reshape(entry["shape"])
    raw = base64.b64decode(entry["base64"], validate=True)
    return np.frombuffer(raw, dtype=entry["dtype"]).reshape(entry["shape"])
