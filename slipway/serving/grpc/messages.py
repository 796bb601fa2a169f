"""The protocol's messages, built from a table of their fields. They live in a pool of their own.

A process may hold the same protocol twice, since clients bring theirs along; in protobuf's common pool the second would fail.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
_TYPES = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}

# Message: its fields in the order of their numbers, from 1. "*" stands for many, "parameters" for a map to InferParameter.
_NAME_AND_VERSION = "name:string version:string"
_TENSOR = "name:string datatype:string shape:int64* parameters contents:InferTensorContents"
_MESSAGES = {
    "ServerLiveResponse": "live:bool",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "TensorMetadata": "name:string datatype:string shape:int64*",
    "ModelMetadataResponse": "name:string versions:string* platform:string inputs:TensorMetadata* outputs:TensorMetadata*",
    "InferTensorContents": "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* "
    "uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*",
    "InferInputTensor": _TENSOR,
    "InferRequestedOutputTensor": "name:string parameters",
    "InferOutputTensor": _TENSOR,
    "ModelInferRequest": "model_name:string model_version:string id:string parameters inputs:InferInputTensor* "
    "outputs:InferRequestedOutputTensor* raw_input_contents:bytes*",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters outputs:InferOutputTensor* "
    "raw_output_contents:bytes*",
    "HealthCheckRequest": "service:string",
    "HealthCheckResponse": "status:int32",
}
_PARAMETER = "bool_param:bool int64_param:int64 string_param:string double_param:double uint64_param:uint64"
PARAMETER_CHOICE = "parameter_choice"


def _describe_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="slipway/inference.proto", package=PACKAGE, syntax="proto3")
    parameter = file.message_type.add(name="InferParameter")
    parameter.oneof_decl.add(name=PARAMETER_CHOICE)
    for number, field in enumerate(_PARAMETER.split(), start=1):
        _add_field(parameter, number, field).oneof_index = 0
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(), start=1):
            if field == "parameters":
                _add_parameters(message, number)
            else:
                _add_field(message, number, field)
    return file


def _add_field(message: DescriptorProto, number: int, text: str) -> FieldDescriptorProto:
    name, _, kind = text.partition(":")
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.endswith("*"):
        field.label = FieldDescriptorProto.LABEL_REPEATED
        kind = kind[:-1]
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    return field


def _add_parameters(message: DescriptorProto, number: int) -> None:
    entry = message.nested_type.add(name="ParametersEntry")
    entry.options.map_entry = True
    _add_field(entry, 1, "key:string")
    _add_field(entry, 2, "value:InferParameter")
    _add_field(message, number, f"parameters:{message.name}.ParametersEntry*")


def _make_classes() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.Add(_describe_file())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES}


_CLASSES = _make_classes()
ServerLiveResponse = _CLASSES["ServerLiveResponse"]
ServerReadyResponse = _CLASSES["ServerReadyResponse"]
ModelReadyRequest = _CLASSES["ModelReadyRequest"]
ModelReadyResponse = _CLASSES["ModelReadyResponse"]
ServerMetadataResponse = _CLASSES["ServerMetadataResponse"]
ModelMetadataRequest = _CLASSES["ModelMetadataRequest"]
ModelMetadataResponse = _CLASSES["ModelMetadataResponse"]
ModelInferRequest = _CLASSES["ModelInferRequest"]
ModelInferResponse = _CLASSES["ModelInferResponse"]
HealthCheckRequest = _CLASSES["HealthCheckRequest"]
HealthCheckResponse = _CLASSES["HealthCheckResponse"]
