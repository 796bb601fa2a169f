"""Tensors against a signature: what every form of request shares. Nothing is rounded, wrapped around or guessed."""

import math
import struct
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import DType, Signature, TensorSpec, show_shape
from slipway.serving.wire.wording import show

DATATYPES: dict[DType, str] = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "string": "BYTES"}
MAX_SAMPLES = 65_536
"""In one request."""
_INTEGER_RANGES: dict[DType, tuple[int, int]] = {"uint8": (0, 255), "int64": (-(2**63), 2**63 - 1)}
_NUMBERS: dict[DType, set[type]] = {"uint8": {int}, "float32": {int, float}, "int64": {int}}
_COLUMN_RANK = 2
_MAX_RANK = 8
_FAST_TYPES: dict[str, type[np.generic]] = {"uint8": np.uint8, "float32": np.float64}


def parse_shape(value: object, spec: TensorSpec, where: str) -> tuple[int, ...]:
    """A shape that `spec` accepts.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, list) or not all(type(size) is int for size in value) or not spec.fits(value):
        raise RequestError(f"{where}.shape is {show(value)}; accepted: {show_shape(spec.shape)}, each 1 or more.")
    if value[0] > MAX_SAMPLES:
        raise RequestError(f"{where}.shape is {show(value)}; accepted: at most {MAX_SAMPLES} samples in one request.")
    return tuple(value)


def check_inputs(arrays: Arrays, signature: Signature) -> None:
    """Raise RequestError unless there is an array for each input, all with the same number of samples."""
    missing = [spec.name for spec in signature.inputs if spec.name not in arrays]
    if missing:
        accepted = ", ".join(spec.name for spec in signature.inputs)
        raise RequestError(f"inputs lacks {', '.join(missing)}; accepted: an entry for each of {accepted}.")
    if len({array.shape[0] for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name}: {array.shape[0]}" for name, array in arrays.items())
        raise RequestError(f"inputs differ in their first axis ({sizes}); accepted: the same number of samples in each.")


def to_array(data: list[Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """A list of JSON values, flat or nested like `shape`, as the array that `spec` wants.

    Raises:
        RequestError: it is ragged, of another size, or holds a value that the type does not have.
    """
    fast = fast_array(data, spec.dtype)
    return shape_array(loose_array(data, spec, where) if fast is None else fast, spec, shape, where)


def shape_array(loose: NDArray[Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Values that are flat or nested like `shape`, as the array that `spec` wants; raises as `to_array` does."""
    if loose.ndim > 1 and loose.shape != shape:
        raise RequestError(f"{where} is nested as {list(loose.shape)}; its shape says {list(shape)}.")
    if loose.size != math.prod(shape):
        raise RequestError(f"{where} has {loose.size} values; its shape {list(shape)} takes {math.prod(shape)}.")
    return convert(loose.reshape(shape), spec, where)


def loose_array(data: object, spec: TensorSpec, where: str) -> NDArray[Any]:
    """Nested lists as an array of whatever type they have.

    Raises:
        RequestError: they are ragged or nested too deeply, or hold a value that JSON writes in another way than `spec` wants.
    """
    # NumPy would give each value the room of the longest string, and take true among numbers for 1.
    if spec.dtype != "string" and _holds_others(data, _NUMBERS[spec.dtype] | ({NoneType} if may_be_missing(spec) else set())):
        raise _not_of_type(spec, where)
    try:
        return np.asarray(data, dtype=object if spec.dtype == "string" else None)
    except (ValueError, OverflowError):
        raise RequestError(f"{where} is nested unevenly; accepted: a flat list, or one nested like the shape.") from None


def convert(loose: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    """Values as `spec` wants them.

    Raises:
        RequestError: one is of another type or out of range.
    """
    if spec.dtype == "string":
        return _convert_strings(loose, where)
    if spec.dtype == "float32":
        return _convert_floats(loose, spec, where)
    lowest, highest = _INTEGER_RANGES[spec.dtype]
    if loose.dtype.kind not in "iu" or loose.min() < lowest or loose.max() > highest:
        raise _not_of_type(spec, where)
    return loose.astype(spec.dtype, copy=False)


def check_floats(values: NDArray[np.float32], spec: TensorSpec, where: str) -> NDArray[np.float32]:
    """`values`, where they are finite; NaN stands for a missing value in a column.

    Raises:
        RequestError: one is infinite, or NaN in what is no column.
    """
    finite = np.isfinite(values)
    if not finite.all() and not (may_be_missing(spec) and np.isnan(values[~finite]).all()):
        raise _not_of_type(spec, where)
    return values


def may_be_missing(spec: TensorSpec) -> bool:
    """Whether an input is a table's column whose values may be missing."""
    return spec.dtype in ("float32", "string") and len(spec.shape) <= _COLUMN_RANK


def fast_array(data: list[Any], dtype: DType) -> NDArray[Any] | None:
    """Lists of numbers, flat or nested, as an array: the quick way for what is nearly always sent.

    None where it does not apply, whatever the reason: `loose_array` finds out what is wrong.
    """
    if dtype not in ("uint8", "float32"):
        return None
    flat = _flatten(data)
    if flat is None:
        return None
    values, shape = flat
    try:
        # Both refuse None and strings, and take true and false for 1 and 0.
        array = np.frombuffer(bytes(values) if dtype == "uint8" else struct.pack(f"{len(values)}d", *values), _FAST_TYPES[dtype])
    except (TypeError, ValueError, OverflowError, struct.error):
        return None
    return (
        None
        if bool in set(map(type, map(values.__getitem__, np.flatnonzero((array == 0) | (array == 1)).data)))
        else array.reshape(shape)
    )


def _flatten(data: list[Any]) -> tuple[list[Any], tuple[int, ...]] | None:
    """(values, shape) of evenly nested lists; None of others."""
    shape = [len(data)]
    try:
        while data and isinstance(data[0], list) and len(shape) < _MAX_RANK:
            lengths = set(map(len, data))
            if len(lengths) != 1:
                return None
            shape.append(lengths.pop())
            data = list(chain.from_iterable(data))
    except TypeError:
        return None
    return (data, tuple(shape)) if data else None


def _convert_strings(loose: NDArray[Any], where: str) -> NDArray[Any]:
    if not _find_types(loose) <= {str, NoneType}:
        raise RequestError(f"{where} holds a value that is not a string; accepted: strings, and null for missing.")
    return np.where(_is_missing(loose), "", loose).astype(object)


def _convert_floats(loose: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[np.float32]:
    if loose.dtype.kind == "O":
        if not _find_types(loose) <= {int, float, NoneType}:
            raise _not_of_type(spec, where)
        missing = _is_missing(loose)
    elif loose.dtype.kind in "iuf":
        missing = None
    else:
        raise _not_of_type(spec, where)
    try:
        with np.errstate(over="ignore"):
            values = loose.astype(np.float32)
    except OverflowError:  # an integer of 400 digits
        raise _not_of_type(spec, where) from None
    known = values if missing is None else values[~missing]
    if not np.isfinite(known).all() or (missing is not None and not may_be_missing(spec)):
        raise _not_of_type(spec, where)
    return values


def _holds_others(data: object, accepted: set[type]) -> bool:
    """Whether a value of another type is among nested ones, however deep."""
    level: list[Any] = [data]
    while level:
        types = set(map(type, level))
        if not types <= accepted | {list}:
            return True
        lists = level if types == {list} else (value for value in level if type(value) is list)
        level = list(chain.from_iterable(lists)) if list in types else []
    return False


def _not_of_type(spec: TensorSpec, where: str) -> RequestError:
    if spec.dtype in _INTEGER_RANGES:
        lowest, highest = _INTEGER_RANGES[spec.dtype]
        return RequestError(f"{where} holds a value that is not an integer from {lowest} to {highest}.")
    missing = ", nor null for missing" if may_be_missing(spec) else ""
    return RequestError(f"{where} holds a value that is not a number that FP32 can hold{missing}.")


def _find_types(values: NDArray[Any]) -> set[type]:
    return set(map(type, values.ravel().tolist()))


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = np.equal(values, np.array(None))
    return missing
