"""The Open Inference Protocol (V2, REST, JSON): requests parsed against a signature, answers and metadata written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slipway.errors import RequestError
from slipway.export.bundle import BundleInfo
from slipway.export.signature import DType, Signature, TensorSpec

DATATYPES: dict[DType, str] = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "string": "BYTES"}
_INTEGER_RANGES: dict[DType, tuple[int, int]] = {"uint8": (0, 255), "int64": (-(2**63), 2**63 - 1)}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A request that the model's signature accepts."""

    id: str | None
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    """Names of the outputs to answer with, in order."""


def parse_request(body: bytes, signature: Signature) -> InferRequest:
    """Parse the JSON body of an infer request.

    Raises:
        RequestError: it is not what `signature` accepts; the message names the field and what is accepted.
    """
    content = _parse_json(body)
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError(f"id is {_show(request_id)}; accepted: a string.")
    return InferRequest(
        id=request_id,
        inputs=_parse_inputs(content.get("inputs"), signature),
        outputs=_parse_outputs(content.get("outputs"), signature),
    )


def write_response(
    request: InferRequest, outputs: Mapping[str, NDArray[Any]], *, signature: Signature, name: str, version: str
) -> bytes:
    """The JSON answer; data are flat, in row-major order. NaN becomes null."""
    specs = {spec.name: spec for spec in signature.outputs}
    answer = {
        "model_name": name,
        "model_version": version,
        "id": request.id,
        "outputs": [_write_tensor(specs[output], outputs[output]) for output in request.outputs],
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def write_request(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> bytes:
    """The JSON body that asks for a prediction of `inputs`."""
    tensors = [_write_tensor(spec, inputs[spec.name]) for spec in signature.inputs]
    return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


def describe_model(info: BundleInfo, *, name: str, version: str) -> dict[str, Any]:
    """The metadata of a model: the protocol's fields, and what the bundle knows beyond them under `parameters`."""
    return {
        "name": name,
        "versions": [version],
        "platform": "onnx",
        "inputs": [_describe_tensor(spec) for spec in info.signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in info.signature.outputs],
        "parameters": {
            "task": info.task,
            "architecture": info.architecture,
            "class_names": list(info.class_names),
            "bundle_id": info.bundle_id,
            "dataset_id": info.dataset_id,
            "code_version": info.code_version,
        },
    }


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not JSON ({error}); accepted: a V2 infer request.") from None
    if not isinstance(content, dict):
        raise RequestError('The body is not a JSON object; accepted: {"inputs": [...]}.')
    return content


def _parse_inputs(entries: object, signature: Signature) -> dict[str, NDArray[Any]]:
    specs = {spec.name: spec for spec in signature.inputs}
    if not isinstance(entries, list):
        raise RequestError(f"inputs is {_show(entries)}; accepted: a list with an entry for each of {', '.join(specs)}.")
    arrays: dict[str, NDArray[Any]] = {}
    for position, entry in enumerate(entries):
        where = f"inputs[{position}]"
        if not isinstance(entry, dict):
            raise RequestError(f"{where} is {_show(entry)}; accepted: an object with name, shape, datatype and data.")
        name = entry.get("name")
        if not isinstance(name, str) or name not in specs:
            raise RequestError(f"{where}.name is {_show(name)}; accepted: {', '.join(specs)}.")
        if name in arrays:
            raise RequestError(f"{where}.name is {name!r}, which stands twice.")
        arrays[name] = _parse_tensor(entry, specs[name], f"{where} ({name})")
    missing = [name for name in specs if name not in arrays]
    if missing:
        raise RequestError(f"inputs lacks {', '.join(missing)}; accepted: an entry for each of {', '.join(specs)}.")
    if len({array.shape[0] for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name}: {array.shape[0]}" for name, array in arrays.items())
        raise RequestError(f"inputs differ in their first axis ({sizes}); accepted: the same number of samples in each.")
    return arrays


def _parse_outputs(entries: object, signature: Signature) -> tuple[str, ...]:
    known = tuple(spec.name for spec in signature.outputs)
    if entries is None or entries == []:
        return known
    if not isinstance(entries, list):
        raise RequestError(f"outputs is {_show(entries)}; accepted: a list of objects with a name, of {', '.join(known)}.")
    names: list[str] = []
    for position, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else entry
        if not isinstance(name, str) or name not in known:
            raise RequestError(f"outputs[{position}].name is {_show(name)}; accepted: {', '.join(known)}.")
        names.append(name)
    return tuple(dict.fromkeys(names))


def _parse_tensor(entry: dict[str, Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    datatype = entry.get("datatype")
    if datatype != DATATYPES[spec.dtype]:
        raise RequestError(f"{where}.datatype is {_show(datatype)}; accepted: {DATATYPES[spec.dtype]}.")
    shape = _parse_shape(entry.get("shape"), spec, where)
    data = entry.get("data")
    if not isinstance(data, list):
        raise RequestError(f"{where}.data is {_show(data)}; accepted: a list of values, flat or nested.")
    try:
        loose = np.asarray(data, dtype=object if spec.dtype == "string" else None)
    except (ValueError, OverflowError):
        raise RequestError(f"{where}.data is nested unevenly; accepted: a flat list, or one nested like the shape.") from None
    if loose.ndim > 1 and loose.shape != shape:
        raise RequestError(f"{where}.data is nested as {list(loose.shape)}; its shape says {list(shape)}.")
    if loose.size != math.prod(shape):
        raise RequestError(f"{where}.data has {loose.size} values; its shape {list(shape)} takes {math.prod(shape)}.")
    return _convert(loose.reshape(shape), spec.dtype, where)


def _parse_shape(value: object, spec: TensorSpec, where: str) -> tuple[int, ...]:
    accepted = "[" + ", ".join("any" if size is None else str(size) for size in spec.shape) + "]"
    fits = (
        isinstance(value, list)
        and len(value) == len(spec.shape)
        and all(type(size) is int and size >= 1 for size in value)
        and all(wanted is None or size == wanted for size, wanted in zip(value, spec.shape, strict=True))
    )
    if not isinstance(value, list) or not fits:
        raise RequestError(f"{where}.shape is {_show(value)}; accepted: {accepted}, each 1 or more.")
    return tuple(value)


def _convert(loose: NDArray[Any], dtype: DType, where: str) -> NDArray[Any]:
    """Values as `dtype`, or a refusal: nothing is rounded, wrapped around or guessed."""
    if dtype == "string":
        return _convert_strings(loose, where)
    if dtype == "float32":
        return _convert_floats(loose, where)
    lowest, highest = _INTEGER_RANGES[dtype]
    if loose.dtype.kind not in "iu" or loose.min() < lowest or loose.max() > highest:
        raise RequestError(f"{where}.data holds a value that is not an integer from {lowest} to {highest}.")
    return loose.astype(dtype)


def _convert_strings(loose: NDArray[Any], where: str) -> NDArray[Any]:
    if not all(value is None or isinstance(value, str) for value in loose.flat):
        raise RequestError(f"{where}.data holds a value that is not a string; accepted: strings, and null for missing.")
    return np.where(_is_missing(loose), "", loose).astype(object)


def _convert_floats(loose: NDArray[Any], where: str) -> NDArray[np.float32]:
    refusal = RequestError(f"{where}.data holds a value that is not a number that FP32 can hold, nor null for missing.")
    if loose.dtype.kind == "O":
        if not all(value is None or type(value) in (int, float) for value in loose.flat):
            raise refusal
        missing = _is_missing(loose)
    elif loose.dtype.kind in "iuf":
        missing = np.zeros(loose.shape, dtype=bool)
    else:
        raise refusal
    with np.errstate(over="ignore"):
        values = loose.astype(np.float32)
    if not np.isfinite(values[~missing]).all():
        raise refusal
    return values


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.array([value is None for value in values.flat], dtype=bool).reshape(values.shape)


def _write_tensor(spec: TensorSpec, array: NDArray[Any]) -> dict[str, Any]:
    flat = np.ascontiguousarray(array).ravel()
    return {
        "name": spec.name,
        "datatype": DATATYPES[spec.dtype],
        "shape": list(array.shape),
        "data": flat.tolist() if flat.dtype == object else flat,
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
