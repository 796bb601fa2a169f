"""A table's rows as named columns: one row an object, or one list a column."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import DType, Signature, TensorSpec
from slipway.serving.wire.answers import suggest
from slipway.serving.wire.tensors import MAX_SAMPLES, may_be_missing, to_array
from slipway.serving.wire.wording import show

_NAMED_ROWS = 1000
"""Rows among which the one is looked for that is at fault."""
_WANTED: dict[DType, str] = {
    "string": "a string",
    "float32": "a number that FP32 can hold (up to 3.4e+38)",
    "int64": "an integer",
    "uint8": "an integer from 0 to 255",
}


@dataclass(frozen=True, kw_only=True)
class RowPolicy:
    """What becomes of what the model has not seen in training."""

    unknown_columns: Literal["refuse", "ignore"] = "refuse"
    unknown_categories: Literal["accept", "refuse"] = "accept"
    """Accepted ones are to the model what a category is that it does not know."""


def takes_columns(signature: Signature) -> bool:
    """Whether a model takes a table's rows: each of its inputs is one value a sample."""
    return all(len(spec.shape) == 1 for spec in signature.inputs)


def read_rows(rows: Sequence[Any], signature: Signature, policy: RowPolicy, where: str) -> dict[str, NDArray[Any]]:
    """Rows as objects; a column that a row leaves out is missing there.

    Raises:
        RequestError: a row is no object, names an unknown column, lacks one that must be there, or holds a value of another type.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RequestError(
                f"{where}[{place}] is {show(row)}; accepted: an object with a value for each of {', '.join(specs)}."
            )
        if not row.keys() <= specs.keys():
            check_columns(row, specs, policy, f"{where}[{place}]")
        if row.keys().isdisjoint(specs.keys()):
            raise RequestError(f"{where}[{place}] names no column of the model; accepted: {', '.join(specs)}.")
    return {name: _read_column([row.get(name) for row in rows], spec, where) for name, spec in specs.items()}


def read_columns(columns: Mapping[str, Any], signature: Signature, policy: RowPolicy, where: str) -> dict[str, NDArray[Any]]:
    """One list of values a column; a column that is left out is missing in every row.

    Raises:
        RequestError: a column is unknown, no list, too long, of another length, or holds a value of another type.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    check_columns(columns, specs, policy, where)
    known = {name: values for name, values in columns.items() if name in specs}
    if not known:
        raise RequestError(f"{where} names no column of the model; accepted: {', '.join(specs)}.")
    for name, values in known.items():
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_SAMPLES:
            accepted = f"a list with a value for each of 1 to {MAX_SAMPLES} rows"
            raise RequestError(f"{where}.{name} is {show(values)}; accepted: {accepted}.")
    lengths = {name: len(values) for name, values in known.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise RequestError(f"The columns of {where} have different lengths ({told}); accepted: the same number of rows in each.")
    num_rows = next(iter(lengths.values()))
    return {name: _read_column(known.get(name, [None] * num_rows), spec, where) for name, spec in specs.items()}


def check_columns(given: Collection[str], specs: Mapping[str, TensorSpec], policy: RowPolicy, where: str) -> None:
    """Raise RequestError for a column that the model does not know, where the policy wants that."""
    if policy.unknown_columns == "ignore":
        return
    for name in given:
        if name not in specs:
            raise RequestError(
                f"{where} names the column {show(name)}, which the model does not know; accepted: {suggest(name, specs)}."
            )


def check_categories(inputs: Arrays, categories: Mapping[str, Collection[str]], policy: RowPolicy) -> None:
    """Raise RequestError for a category that training did not see, where the policy wants that. "" is a missing value."""
    if policy.unknown_categories == "accept":
        return
    for name, known in categories.items():
        values = inputs.get(name)
        unknown = set() if values is None else set(values.ravel().tolist()) - set(known) - {""}
        if unknown:
            value = min(unknown)
            raise RequestError(
                f"The column {name} holds {show(value)}, which training did not see; accepted: {suggest(value, known)}."
            )


def _read_column(values: list[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    if not may_be_missing(spec) and None in values:
        raise RequestError(f"{where}[{values.index(None)}] lacks {spec.name}; accepted: a value in each row.")
    try:
        if any(isinstance(value, (list, dict)) for value in values):
            raise RequestError(f"{where}, column {spec.name}, holds a list or an object; accepted: one value a row.")
        return to_array(values, spec, (len(values),), f"{where}, column {spec.name},")
    except RequestError:
        for place, value in enumerate(values[:_NAMED_ROWS]):
            _check_value(value, spec, f"{where}[{place}].{spec.name}")
        raise


def _check_value(value: Any, spec: TensorSpec, where: str) -> None:
    missing = ", or null for missing" if may_be_missing(spec) else ""
    wanted = _WANTED[spec.dtype]
    try:
        if isinstance(value, (list, dict)):
            raise RequestError(where)
        to_array([value], spec, (1,), where)
    except RequestError:
        raise RequestError(f"{where} is {show(value)}; accepted: {wanted}{missing}.") from None
