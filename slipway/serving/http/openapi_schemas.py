"""JSON schemas of what a model's signature accepts and gives."""

from collections.abc import Mapping
from typing import Any

from slipway.export.bundle import ColumnInfo
from slipway.export.signature import DType, Signature, TensorSpec
from slipway.serving.wire.images import find_image_spec
from slipway.serving.wire.rows import takes_columns
from slipway.serving.wire.tensors import DATATYPES, MAX_SAMPLES, may_be_missing
from slipway.serving.wire.v2 import MAX_TIMEOUT

Schema = dict[str, Any]

MAX_EXAMPLES = 100
"""Categories of a column that are named."""
Columns = Mapping[str, ColumnInfo]
_NO_COLUMNS: Columns = {}
_FP32_MAX = 3.4028234e38
_VALUES: dict[DType, Schema] = {
    "uint8": {"type": "integer", "minimum": 0, "maximum": 255},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float32": {"type": "number", "minimum": -_FP32_MAX, "maximum": _FP32_MAX},
    "string": {"type": "string"},
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What was wrong, where, and what is accepted."}},
}


def error_answer(told: str) -> Schema:
    """A response of an operation."""
    return {"description": told, "content": {"application/json": {"schema": ERROR}}}


def value_schema(spec: TensorSpec, columns: Columns = _NO_COLUMNS) -> Schema:
    """One value of an input, with what training saw of it."""
    schema = dict(_VALUES[spec.dtype])
    seen = columns.get(spec.name)
    if seen is not None and seen.categories:
        schema["examples"] = list(seen.categories[:MAX_EXAMPLES])
    elif seen is not None and seen.minimum is not None and seen.maximum is not None:
        schema["examples"] = [seen.minimum, seen.maximum]
    if may_be_missing(spec):
        schema["type"] = [schema["type"], "null"]
    return schema


def v2_request(signature: Signature) -> Schema:
    """An infer request."""
    inputs = [_input(spec) for spec in signature.inputs]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Comes back in the answer."},
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data_output": {"type": "boolean", "description": "All outputs as raw bytes behind the JSON."},
                    "timeout": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": MAX_TIMEOUT,
                        "description": "Microseconds after which nobody waits for the answer; 0 states none.",
                    },
                },
            },
            "inputs": {
                "type": "array",
                "minItems": len(inputs),
                "maxItems": len(inputs),
                "items": inputs[0] if len(inputs) == 1 else {"oneOf": inputs},
            },
            "outputs": {"type": "array", "items": _wanted_output(signature)},
        },
    }


def v2_response(signature: Signature, name: str, version: str) -> Schema:
    """An infer response."""
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": name},
            "model_version": {"type": "string", "examples": [version]},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"oneOf": [schema for spec in signature.outputs for schema in _outputs(spec)]}},
        },
    }


def v1_request(signature: Signature, columns: Columns = _NO_COLUMNS) -> Schema:
    """A predict request: instances, or for a table also columns."""
    instances = {"type": "array", "minItems": 1, "maxItems": MAX_SAMPLES, "items": _instance(signature, columns)}
    top_k = {"type": "integer", "minimum": 1, "description": "Only the most probable classes, that many."}
    by_instance = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": instances, "top_k": top_k},
        "not": {"required": ["inputs"]},
    }
    if not takes_columns(signature):
        return by_instance
    lists = {
        spec.name: {"type": "array", "minItems": 1, "maxItems": MAX_SAMPLES, "items": value_schema(spec, columns)}
        for spec in signature.inputs
    }
    inputs = {"type": "object", "minProperties": 1, "properties": lists, "additionalProperties": False}
    by_column = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": inputs, "top_k": top_k},
        "not": {"required": ["instances"]},
    }
    return {"oneOf": [by_instance, by_column]}


def v1_response(class_names: tuple[str, ...]) -> Schema:
    """A predict response of a classifier."""
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    prediction = {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": {"enum": list(class_names)},
            "probability": probability,
            "probabilities": {
                "type": "object",
                "properties": dict.fromkeys(class_names, probability),
                "additionalProperties": False,
            },
        },
    }
    return {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array", "items": prediction}}}


def _input(spec: TensorSpec) -> Schema:
    data = value_schema(spec)
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": DATATYPES[spec.dtype]},
            "shape": _shape(spec),
            "data": {
                "type": "array",
                "description": "Flat in row-major order, or nested like the shape.",
                "items": {"anyOf": [data, {"type": "array"}]} if len(spec.shape) > 1 else data,
            },
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data_size": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "In place of data: bytes of it behind the JSON (Inference-Header-Content-Length).",
                    }
                },
            },
        },
    }


def _outputs(spec: TensorSpec) -> list[Schema]:
    base = {"name": {"const": spec.name}, "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}}}
    required = ["name", "datatype", "shape"]
    values = {"type": "array", "items": {"type": ["number", "null"] if spec.dtype == "float32" else _VALUES[spec.dtype]["type"]}}
    whole = {
        "type": "object",
        "required": required,
        "properties": {**base, "datatype": {"const": DATATYPES[spec.dtype]}, "data": values},
    }
    if spec.dtype == "string":
        return [whole]
    classes = {"type": "array", "items": {"type": "string", "description": "PROBABILITY:INDEX:LABEL"}}
    return [
        whole,
        {"type": "object", "required": required, "properties": {**base, "datatype": {"const": "BYTES"}, "data": classes}},
    ]


def _wanted_output(signature: Signature) -> Schema:
    return {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": [spec.name for spec in signature.outputs]},
            "parameters": {
                "type": "object",
                "properties": {
                    "classification": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "The most probable classes, that many, as PROBABILITY:INDEX:LABEL.",
                    },
                    "binary_data": {"type": "boolean", "description": "As raw bytes behind the JSON."},
                },
            },
        },
    }


def _instance(signature: Signature, columns: Columns) -> Schema:
    if takes_columns(signature):
        return {
            "type": "object",
            "minProperties": 1,
            "properties": {spec.name: value_schema(spec, columns) for spec in signature.inputs},
            "additionalProperties": False,
        }
    spec = find_image_spec(signature)
    if spec is not None:
        file = {
            "type": "object",
            "required": ["b64"],
            "properties": {"b64": {"type": "string", "contentEncoding": "base64", "description": "A JPEG, PNG or WebP file."}},
            "additionalProperties": False,
        }
        return {"anyOf": [file, _nested(spec, spec.shape[1:])]}
    if len(signature.inputs) == 1:
        return _nested(signature.inputs[0], signature.inputs[0].shape[1:])
    properties = {entry.name: _nested(entry, entry.shape[1:]) for entry in signature.inputs}
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _nested(spec: TensorSpec, shape: tuple[int | None, ...]) -> Schema:
    if not shape:
        return value_schema(spec)
    schema: Schema = {"type": "array", "minItems": shape[0] or 1, "items": _nested(spec, shape[1:])}
    if shape[0] is not None:
        schema["maxItems"] = shape[0]
    return schema


def _shape(spec: TensorSpec) -> Schema:
    sizes: list[Schema] = [{"const": size} if size is not None else {"type": "integer", "minimum": 1} for size in spec.shape]
    sizes[0] = {"type": "integer", "minimum": 1, "maximum": MAX_SAMPLES, "description": "Samples."}
    return {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes), "items": False}
