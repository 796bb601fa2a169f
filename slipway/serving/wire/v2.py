"""The Open Inference Protocol (V2, REST): requests parsed against a signature, answers written.

Tensors stand in the JSON, or, by the binary tensor data extension, behind it (`slipway.serving.wire.v2_binary`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.exchange import MAX_DEADLINE_SECONDS
from slipway.serving.wire import answers, v2_binary
from slipway.serving.wire.json_body import parse_object, reading
from slipway.serving.wire.request import InferRequest, WantedOutput, all_outputs
from slipway.serving.wire.rows import RowPolicy, takes_columns
from slipway.serving.wire.small_numbers import cut_lists
from slipway.serving.wire.tensors import DATATYPES, check_inputs, parse_shape, shape_array, to_array
from slipway.serving.wire.wording import show

_REFUSE_UNKNOWN = RowPolicy()
_ACCEPTED = 'a V2 infer request, {"inputs": [...]}'
_MICROSECONDS = 1_000_000
MAX_TIMEOUT = MAX_DEADLINE_SECONDS * _MICROSECONDS
"""Of the parameter `timeout`, in microseconds."""


def parse_request(
    body: bytes,
    signature: Signature,
    *,
    json_size: int | None = None,
    policy: RowPolicy = _REFUSE_UNKNOWN,
    top_k: int = 0,
    on_id: Callable[[str], None] = lambda _: None,
) -> InferRequest:
    """Parse an infer request.

    Args:
        body: JSON, and behind it the tensors that say so.
        signature: Of the model.
        json_size: Bytes of the JSON; None where it is all of the body.
        policy: What becomes of columns that a model of tables does not know.
        top_k: The most probable classes in place of probabilities, where the body names no outputs; 0 for the probabilities.
        on_id: Called with the request's id, where it has one, before the rest is looked at.

    Raises:
        RequestError: it is not what `signature` accepts; the message names the field and what is accepted.
    """
    header, tail = v2_binary.split_body(body, json_size)
    text, lists = cut_lists(bytes(header))
    model = _Model(signature, policy, top_k)
    if lists:
        try:
            return _parse(text, _Body(tail, lists), model, on_id)
        except RequestError:  # the whole of it gets the sentence that says what is wrong
            header, tail = v2_binary.split_body(body, json_size)
    return _parse(header, _Body(tail, {}), model, on_id)


@dataclass(frozen=True, slots=True)
class _Model:
    """What the model takes, and how it is asked."""

    signature: Signature
    policy: RowPolicy
    top_k: int


def _parse(text: "bytes | memoryview", values: "_Body", model: _Model, on_id: Callable[[str], None]) -> InferRequest:
    with reading(text):
        content = parse_object(text, _ACCEPTED)
        request_id = content.get("id")
        if request_id is not None and not isinstance(request_id, str):
            raise RequestError(f"id is {show(request_id)}; accepted: a string.")
        if request_id is not None:
            on_id(request_id)
        parameters = parse_parameters(content, "parameters")
        inputs = parse_inputs(content.get("inputs"), model.signature, values, model.policy)
        values.check_end()
        binary = parse_flag(parameters, "binary_data_output", "parameters")
        return InferRequest(
            id=request_id,
            parts=(inputs,),
            outputs=parse_outputs(content.get("outputs"), model.signature, binary=binary, top_k=model.top_k),
            timeout_seconds=parse_timeout(parameters),
        )


def parse_parameters(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output.

    Raises:
        RequestError: they are no object.
    """
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f"{where} is {show(parameters)}; accepted: an object.")
    return parameters


def write_response(
    request: InferRequest,
    outputs: Arrays,
    *,
    signature: Signature,
    name: str,
    version: str,
    class_names: tuple[str, ...] = (),
) -> tuple[bytes, int | None]:
    """The answer; data are flat, in row-major order. NaN becomes null.

    Returns:
        (body, bytes of the JSON at its beginning where tensors stand behind it, else None).
    """
    specs = {spec.name: spec for spec in signature.outputs}
    tail: list[bytes] = []
    entries = []
    for wanted in request.outputs:
        array, datatype = outputs[wanted.name], DATATYPES[specs[wanted.name].dtype]
        if wanted.top_k:
            array, datatype = answers.to_classification(array, class_names, wanted.top_k), "BYTES"
        entry: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": list(array.shape)}
        if wanted.binary:
            tail.append(v2_binary.to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = _to_json(array)
        entries.append(entry)
    answer: dict[str, Any] = {"model_name": name, "model_version": version}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = entries
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((header, *tail)), len(header)) if tail else (header, None)


def write_request(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> bytes:
    """The JSON body that asks for a prediction of `inputs`."""
    tensors = [
        {
            "name": spec.name,
            "datatype": DATATYPES[spec.dtype],
            "shape": list(inputs[spec.name].shape),
            "data": _to_json(inputs[spec.name]),
        }
        for spec in signature.inputs
    ]
    return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


class Values(Protocol):
    """Where the values of a request's tensors are."""

    def read(self, position: int, entry: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
        """Those of the tensor at `position`, which `entry` describes.

        Raises:
            RequestError: they are not what `spec` and `shape` want.
        """

    def skip(self, position: int, entry: dict[str, Any], where: str) -> None:
        """Pass over those of a tensor that is ignored."""


class _Body:
    """Values in the JSON, cut out of it, or behind it."""

    def __init__(self, tail: v2_binary.Tail, lists: Mapping[str, NDArray[Any]]) -> None:
        self._tail = tail
        self._lists = lists

    def read(self, _position: int, entry: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
        size = parse_parameters(entry, f"{where}.parameters").get("binary_data_size")
        data = entry.get("data")
        if size is not None:
            if data is not None:
                raise RequestError(f"{where} has both data and parameters.binary_data_size; accepted: one of the two.")
            return self._tail.take(size, spec, shape, where)
        if isinstance(data, str) and data in self._lists:
            return shape_array(self._lists[data], spec, shape, f"{where}.data")
        if not isinstance(data, list):
            raise RequestError(f"{where}.data is {show(data)}; accepted: a list of values, flat or nested.")
        return to_array(data, spec, shape, f"{where}.data")

    def skip(self, _position: int, entry: dict[str, Any], where: str) -> None:
        self._tail.skip(parse_parameters(entry, f"{where}.parameters").get("binary_data_size", 0), where)

    def check_end(self) -> None:
        """Raise RequestError where more stands behind the JSON."""
        self._tail.check_end()


def parse_inputs(entries: object, signature: Signature, values: Values, policy: RowPolicy) -> dict[str, NDArray[Any]]:
    """The inputs of a request, whose tensors `entries` describe.

    Raises:
        RequestError: one is missing, unknown, stands twice, or is not what `signature` accepts.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    if not isinstance(entries, list):
        raise RequestError(f"inputs is {show(entries)}; accepted: a list with an entry for each of {', '.join(specs)}.")
    ignores = policy.unknown_columns == "ignore" and takes_columns(signature)
    arrays: dict[str, NDArray[Any]] = {}
    for position, entry in enumerate(entries):
        where = f"inputs[{position}]"
        if not isinstance(entry, dict):
            raise RequestError(f"{where} is {show(entry)}; accepted: an object with name, shape, datatype and data.")
        name = entry.get("name")
        if not isinstance(name, str) or name not in specs:
            if ignores and isinstance(name, str):
                values.skip(position, entry, f"{where} ({name[:60]})")
                continue
            raise RequestError(f"{where}.name is {show(name)}; accepted: {answers.suggest(name, specs)}.")
        if name in arrays:
            raise RequestError(f"{where}.name is {name!r}, which stands twice; accepted: once.")
        spec, where = specs[name], f"{where} ({name})"
        datatype = entry.get("datatype")
        if datatype != DATATYPES[spec.dtype]:
            raise RequestError(f"{where}.datatype is {show(datatype)}; accepted: {DATATYPES[spec.dtype]}.")
        arrays[name] = values.read(position, entry, spec, parse_shape(entry.get("shape"), spec, where), where)
    check_inputs(arrays, signature)
    return arrays


def parse_outputs(entries: object, signature: Signature, *, binary: bool = False, top_k: int = 0) -> tuple[WantedOutput, ...]:
    """What a request wants to be answered with; all outputs where it names none.

    Raises:
        RequestError: one is unknown, stands twice, or its parameters are not accepted.
    """
    known = {spec.name: spec for spec in signature.outputs}
    if entries is None or entries == []:
        return all_outputs(signature, binary=binary, top_k=top_k)
    if not isinstance(entries, list):
        raise RequestError(f"outputs is {show(entries)}; accepted: a list of objects with a name, of {', '.join(known)}.")
    wanted: dict[str, WantedOutput] = {}
    for position, given in enumerate(entries):
        entry = given if isinstance(given, dict) else {"name": given}
        where = f"outputs[{position}]"
        name = entry.get("name")
        if not isinstance(name, str) or name not in known:
            raise RequestError(f"{where}.name is {show(name)}; accepted: {answers.suggest(name, known)}.")
        if name in wanted:
            raise RequestError(f"{where}.name is {name!r}, which stands twice; accepted: once.")
        parameters = parse_parameters(entry, f"{where}.parameters")
        wanted[name] = WantedOutput(
            name=name,
            binary=parse_flag(parameters, "binary_data", f"{where}.parameters", default=binary),
            top_k=answers.parse_top_k(parameters.get("classification"), f"{where}.parameters.classification"),
        )
        if wanted[name].top_k and not answers.holds_probabilities(known[name]):
            raise RequestError(f"{where}.parameters.classification is for probabilities; {name} holds none.")
    return tuple(wanted.values())


def parse_flag(parameters: dict[str, Any], name: str, where: str, *, default: bool = False) -> bool:
    """A parameter that is true or false.

    Raises:
        RequestError: it is neither.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{where}.{name} is {show(value)}; accepted: true, false.")
    return value


def parse_timeout(parameters: dict[str, Any]) -> float | None:
    """The parameter `timeout` of a request (Triton's schedule policy extension), in seconds; None where it is not there, or 0.

    Raises:
        RequestError: it is no such number of microseconds.
    """
    value = parameters.get("timeout", 0)
    if type(value) is not int or not 0 <= value <= MAX_TIMEOUT:
        accepted = f"a whole number of microseconds, at most {MAX_TIMEOUT}, or 0 for none"
        raise RequestError(f"parameters.timeout is {show(value)}; accepted: {accepted}.")
    return value / _MICROSECONDS or None


def _to_json(array: NDArray[Any]) -> Any:
    flat = np.ascontiguousarray(array).ravel()
    return flat.tolist() if flat.dtype == object else flat
