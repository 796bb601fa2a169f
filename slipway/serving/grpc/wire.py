"""Infer requests and answers in protobuf, by the same rules as V2 over REST."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import DType, Signature, TensorSpec
from slipway.serving.grpc.messages import PARAMETER_CHOICE, ModelInferResponse
from slipway.serving.wire import answers, v2, v2_binary
from slipway.serving.wire.request import InferRequest
from slipway.serving.wire.rows import RowPolicy
from slipway.serving.wire.tensors import DATATYPES, check_floats, convert

_CONTENTS: dict[DType, str] = {
    "uint8": "uint_contents",
    "int64": "int64_contents",
    "float32": "fp32_contents",
    "string": "bytes_contents",
}
_MAX_RANK = 64
"""Of a shape with more sizes than any tensor of a model has, the first of them are looked at."""
_LOOSE_DTYPES: dict[DType, Any] = {"uint8": np.uint32, "int64": np.int64, "float32": np.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpcRequest:
    """A request that the model's signature accepts, and the form that its answer is to have."""

    wanted: InferRequest
    raw: bool
    """Whether the answer holds its tensors as bytes; else as lists of numbers."""

    @property
    def inputs(self) -> Arrays:
        """What to predict from."""
        return self.wanted.inputs


def decode(message_type: Any, body: bytes) -> Any:
    """A message from its bytes.

    Raises:
        RequestError: they are no such message.
    """
    try:
        return message_type.FromString(body)
    except DecodeError as error:
        raise RequestError(
            f"The message is no {message_type.DESCRIPTOR.name} of the Open Inference Protocol ({error})."
        ) from None


def read_request(message: Any, signature: Signature, policy: RowPolicy) -> GrpcRequest:
    """Check a ModelInferRequest against a signature.

    Raises:
        RequestError: it is not what `signature` accepts; the message names the field and what is accepted.
    """
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise RequestError(
            f"raw_input_contents has {len(raw)} entries; accepted: one for each of the {len(message.inputs)} inputs."
        )
    entries = [{"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape[:_MAX_RANK]} for tensor in message.inputs]
    inputs = v2.parse_inputs(entries, signature, _Contents(message, raw), policy)
    outputs = [{"name": output.name, "parameters": _read_parameters(output)} for output in message.outputs]
    parameters = _read_parameters(message)
    return GrpcRequest(
        wanted=InferRequest(
            id=message.id or None,
            parts=(inputs,),
            outputs=v2.parse_outputs(outputs, signature),
            timeout_seconds=v2.parse_timeout(parameters),
        ),
        raw=v2.parse_flag(parameters, "binary_data_output", "parameters", default=bool(raw)),
    )


def write_response(
    request: GrpcRequest, outputs: Arrays, *, signature: Signature, name: str, version: str, class_names: tuple[str, ...]
) -> bytes:
    """A ModelInferResponse."""
    specs = {spec.name: spec for spec in signature.outputs}
    answer = ModelInferResponse(model_name=name, model_version=version, id=request.wanted.id or "")
    for wanted in request.wanted.outputs:
        array, dtype = outputs[wanted.name], specs[wanted.name].dtype
        if wanted.top_k:
            array, dtype = answers.to_classification(array, class_names, wanted.top_k), "string"
        tensor = answer.outputs.add(name=wanted.name, datatype=DATATYPES[dtype], shape=array.shape)
        if request.raw:
            answer.raw_output_contents.append(v2_binary.to_bytes(array))
        else:
            values = array.ravel().tolist()
            getattr(tensor.contents, _CONTENTS[dtype]).extend(
                [str(value).encode() for value in values] if dtype == "string" else values
            )
    body: bytes = answer.SerializeToString()
    return body


class _Contents:
    """Values in the tensors themselves, or as raw bytes beside them."""

    def __init__(self, message: Any, raw: list[bytes]) -> None:
        self._tensors = message.inputs
        self._raw = raw

    def read(self, position: int, _entry: dict[str, Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
        contents = self._tensors[position].contents
        given = [field.name for field, _ in contents.ListFields()]
        if self._raw:
            if given:
                raise RequestError(f"{where} has both contents and an entry in raw_input_contents; accepted: one of the two.")
            return v2_binary.read_raw(memoryview(self._raw[position]), spec, shape, where)
        accepted = _CONTENTS[spec.dtype]
        if given != [accepted]:
            told = ", ".join(given) or "empty"
            raise RequestError(f"{where}.contents is {told}; accepted: {accepted}, or raw_input_contents.")
        return _to_array(getattr(contents, accepted), spec, shape, f"{where}.contents.{accepted}")

    def skip(self, position: int, _entry: dict[str, Any], where: str) -> None:
        """Nothing to pass over: each tensor has its own place."""


def _to_array(values: Any, spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if len(values) != math.prod(shape):
        raise RequestError(f"{where} has {len(values)} values; its shape {list(shape)} takes {math.prod(shape)}.")
    if spec.dtype != "string":
        loose = np.fromiter(values, dtype=_LOOSE_DTYPES[spec.dtype], count=len(values)).reshape(shape)
        return check_floats(loose, spec, where) if spec.dtype == "float32" else convert(loose, spec, where)
    try:
        strings = [value.decode() for value in values]
    except UnicodeDecodeError:
        raise RequestError(f"{where} holds a string that is not UTF-8.") from None
    return np.array(strings, dtype=object).reshape(shape)


def _read_parameters(message: Any) -> dict[str, Any]:
    parameters = {name: (value, value.WhichOneof(PARAMETER_CHOICE)) for name, value in message.parameters.items()}
    return {name: getattr(value, choice) if choice else None for name, (value, choice) in parameters.items()}
