"""The values of a column as a model's input."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.export.signature import TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 60
Converted = tuple[NDArray[Any], dict[int, str]]
"""An array of the input's dtype, and what is wrong with values that are not accepted, by their places."""


def convert_column(values: "pa.Array | list[Any]", spec: TensorSpec) -> Converted:
    """None is a missing value: NaN in a column of numbers, an empty string in one of strings."""
    if not isinstance(values, list):
        array = _convert_array(values, spec)
        if array is not None:
            return array, {}
        values = _to_list(values)
    if spec.dtype == "string":
        return _convert_strings(values, spec.name)
    missing = float("nan") if spec.dtype == "float32" else None
    try:
        converted = np.array([missing if value is None else float(value) for value in values], dtype=np.float64)
        if _fits(converted, spec.dtype).all():
            return converted.astype(spec.dtype), {}
    except (TypeError, ValueError, OverflowError):
        pass
    return _convert_one_by_one(values, spec)


def _convert_array(values: "pa.Array", spec: TensorSpec) -> NDArray[Any] | None:
    """All at once; None where a value is not accepted, or might not be."""
    import pyarrow as pa

    if spec.dtype == "string":
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        try:
            return values.fill_null("").to_numpy(zero_copy_only=False) if is_text else None
        except pa.ArrowException:  # It is not UTF-8.
            return None
    if values.null_count and spec.dtype != "float32":
        return None
    try:
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return numbers.astype(spec.dtype) if _fits(numbers, spec.dtype).all() else None


def _to_list(values: "pa.Array") -> list[Any]:
    """Python's values; of a string that is not UTF-8 its bytes, which nothing accepts."""
    try:
        listed: list[Any] = values.to_pylist()
    except UnicodeDecodeError:
        return [_to_value(value) for value in values]
    return listed


def _to_value(value: "pa.Scalar") -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error.object


def _convert_one_by_one(values: list[Any], spec: TensorSpec) -> tuple[NDArray[Any], dict[int, str]]:
    accepted = {
        "float32": "a finite number, or nothing where it is missing",
        "uint8": "an integer from 0 to 255",
        "int64": "an integer from -2**63 to 2**63 - 1024, as 64-bit floats hold them",
    }
    converted, wrong = np.zeros(len(values), dtype=spec.dtype), {}
    for place, value in enumerate(values):
        try:
            number = np.float64("nan") if value is None and spec.dtype == "float32" else np.float64(value)
            if not _fits(np.array([number]), spec.dtype)[0] and not (value is None and spec.dtype == "float32"):
                raise ValueError(value)
            converted[place] = number
        except (TypeError, ValueError, OverflowError):
            wrong[place] = f"column {spec.name} is {repr(value)[:_SHOWN]}; accepted: {accepted[spec.dtype]}"
    return converted, wrong


def _fits(numbers: NDArray[np.float64], dtype: str) -> NDArray[np.bool_]:
    if dtype == "float32":
        return np.isnan(numbers) | (np.abs(numbers) <= np.finfo(np.float32).max)
    limits = np.iinfo(dtype)
    fits: NDArray[np.bool_] = (numbers == np.floor(numbers)) & (numbers >= limits.min) & (numbers < float(limits.max + 1))
    return fits


def _convert_strings(values: list[Any], name: str) -> tuple[NDArray[Any], dict[int, str]]:
    converted, wrong = np.empty(len(values), dtype=object), {}
    for place, value in enumerate(values):
        converted[place] = "" if value is None else value
        if not isinstance(converted[place], str):
            wrong[place] = f"column {name} is {repr(value)[:_SHOWN]}; accepted: a string, or nothing where it is missing"
            converted[place] = ""
    return converted, wrong
