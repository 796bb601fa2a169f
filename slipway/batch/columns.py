"""The values of a column as a model's input: exactly what the file says, or an error."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import RequestError
from slipway.export.signature import TensorSpec
from slipway.serving.wire.tensors import to_array
from slipway.serving.wire.wording import show

if TYPE_CHECKING:
    import pyarrow as pa

Converted = tuple[NDArray[Any], dict[int, str]]
"""An array of the input's dtype, and what is wrong with values that are not accepted, by their places."""
_ACCEPTED = {
    "float32": "a finite number, or nothing where it is missing",
    "uint8": "an integer from 0 to 255",
    "int64": f"an integer from {-(2**63)} to {2**63 - 1}",
    "string": "a string, or nothing where it is missing",
}
_DIGITS = "^-?[0-9]+$"
"""An integer that Arrow reads as Python does: it also takes 0x10 for one."""


def convert_json(values: list[Any], spec: TensorSpec) -> Converted:
    """Values as JSON has them, by the predictor's own rules: what it refuses in a row is refused here."""
    try:
        return to_array(values, spec, (len(values),), spec.name), {}
    except RequestError:
        return _convert_one_by_one(values, spec, lambda value: to_array([value], spec, (1,), spec.name)[0])


def convert_column(values: "pa.Array", spec: TensorSpec) -> Converted:
    """Cells as text, or the values of a typed column. Null is a missing value: NaN among numbers, else an empty string."""
    array = _convert_at_once(values, spec)
    if array is not None:
        return array, {}
    return _convert_one_by_one(_to_list(values), spec, _CONVERT[spec.dtype])


def _convert_at_once(values: "pa.Array", spec: TensorSpec) -> NDArray[Any] | None:
    """None where a value is not accepted, or might not be."""
    import pyarrow as pa
    from pyarrow import compute

    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
    try:
        if spec.dtype == "string":
            return values.fill_null("").to_numpy(zero_copy_only=False) if is_text else None
        if not (is_text or is_number) or (values.null_count and spec.dtype != "float32"):
            return None
        if spec.dtype == "float32" or pa.types.is_floating(values.type):
            numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        elif is_number or compute.all(compute.match_substring_regex(values, _DIGITS)).as_py():
            numbers = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
        else:
            return None
    except pa.ArrowException:  # It is no number, does not fit, or is not UTF-8.
        return None
    return numbers.astype(spec.dtype) if _fits(numbers, spec.dtype).all() else None


def _fits(numbers: NDArray[Any], dtype: str) -> NDArray[np.bool_]:
    if dtype == "float32":
        fits = np.isnan(numbers) | (np.abs(numbers) <= np.finfo(np.float32).max)
    elif numbers.dtype == np.int64:
        fits = (numbers >= np.iinfo(dtype).min) & (numbers <= np.iinfo(dtype).max)
    else:
        fits = (numbers == np.floor(numbers)) & (numbers >= np.iinfo(dtype).min) & (numbers < float(np.iinfo(dtype).max + 1))
    return np.asarray(fits)


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


def _convert_one_by_one(values: Sequence[Any], spec: TensorSpec, convert: Callable[[Any], Any]) -> Converted:
    converted: NDArray[Any] = np.full(len(values), "", object) if spec.dtype == "string" else np.zeros(len(values), spec.dtype)
    wrong: dict[int, str] = {}
    for place, value in enumerate(values):
        try:
            converted[place] = convert(value)
        except (ValueError, TypeError, ArithmeticError):
            wrong[place] = f"column {spec.name} is {show(value)}; accepted: {_ACCEPTED[spec.dtype]}"
    return converted, wrong


def _to_string(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(value)


def _to_float(value: Any) -> np.float64:
    number = np.float64("nan") if value is None else np.float64(_check_number(value))
    if not _fits(np.array([number]), "float32")[0]:
        raise ValueError(value)
    return number


def _to_integer(limits: "np.iinfo[Any]", value: Any) -> int:
    """Text such as 5.0 is an integer too: files that had a missing value somewhere are often written so."""
    number = Decimal(_check_number(value))
    if not (limits.min <= number <= limits.max and number == int(number)):
        raise ValueError(value)
    return int(number)


def _check_number(value: Any) -> Any:
    """What is neither a number nor text is none, nor is 1_000, which is one to Python."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)) or (isinstance(value, str) and "_" in value):
        raise TypeError(value)
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "float32": _to_float,
    "uint8": partial(_to_integer, np.iinfo(np.uint8)),
    "int64": partial(_to_integer, np.iinfo(np.int64)),
    "string": _to_string,
}
