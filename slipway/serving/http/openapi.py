"""The interface of a predictor as an OpenAPI document, made from its model's signature and golden examples."""

from collections.abc import Mapping
from typing import Any

import orjson
from numpy.typing import NDArray

from slipway import __version__
from slipway.serving.exchange import MAX_DEADLINE_SECONDS
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.openapi_examples import find_inputs, write_v1_example, write_v2_example
from slipway.serving.http.openapi_guards import add_refusals, describe_security
from slipway.serving.http.openapi_schemas import ERROR, Schema, error_answer, v1_request, v1_response, v2_request, v2_response
from slipway.serving.inference.model import LoadedModel
from slipway.serving.wire.images import MEDIA_TYPES, find_image_spec

_READ_ERRORS = {
    "400": "The request's head is not accepted.",
    "408": "The request did not arrive in time.",
    "431": "The headers are too large.",
}
_ERRORS = _READ_ERRORS | {
    "400": "What was sent is not what the model accepts; the sentence names the field.",
    "413": "The body is too large.",
    "415": "The body's type or coding is not read here.",
    "500": "The model failed; the server's log says why.",
    "503": "Too much waits for the model already; Retry-After says when to ask again.",
    "504": "The request's deadline passed.",
}
_REQUEST_ID: Schema = {"type": "string", "pattern": "^[!-~]{1,128}$"}
_HEADERS = {
    "x-request-id": {"description": "The client's own, or a new one.", "required": True, "schema": _REQUEST_ID},
}
"""Of every answer."""
_ANSWER_HEADERS = {
    "x-model-version": {"description": "Of the model that answered.", "required": True, "schema": {"type": "string"}},
}
"""Besides, of a prediction."""
_OBJECT: Schema = {"type": "object"}


def write_document(model: LoadedModel, options: AppOptions) -> bytes:
    """OpenAPI 3.1, as JSON."""
    v2 = f"/v2/models/{model.name}"
    of_version = f"{v2}/versions/{model.version}"
    ready = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
    infer = _infer(model)
    paths: dict[str, Any] = {
        f"/v1/models/{model.name}:predict": {"post": _predict(model)},
        f"{v2}/infer": {"post": infer},
        f"{of_version}/infer": {"post": {**infer, "operationId": "inferVersion"}},
        v2: _read("describeModel", "Inputs, outputs, classes, engine.", _OBJECT),
        of_version: _read("describeModelVersion", "The same, of this version.", _OBJECT),
        f"{v2}/ready": _read("isModelReady", "Whether the model answers.", ready, not_ready=True),
        f"{of_version}/ready": _read("isModelVersionReady", "Whether this version answers.", ready, not_ready=True),
        f"/v1/models/{model.name}": _read("isModelReadyV1", "Whether the model answers.", ready, not_ready=True),
        "/v1/models": _read("listModelsV1", "The models that are served: one.", _OBJECT),
        "/v2/models": _read("listModels", "The models that are served: one.", _OBJECT),
        "/v2/repository/index": _read("listRepository", "The models with their versions and states.", {"type": "array"}),
        "/v2": _read("describeServer", "Name, version, extensions of the protocol.", _OBJECT),
        "/v2/health/live": _read("isServerLive", "Whether the process answers.", _OBJECT),
        "/v2/health/ready": _read(
            "isServerReady", "Whether requests are wanted; not while the process ends.", ready, not_ready=True
        ),
    }
    if options.metrics is not None:
        text = ("text/plain", "application/openmetrics-text")
        paths["/metrics"] = _read("reportMetrics", "Figures for Prometheus.", {"type": "string"}, media_types=text)
    for path, operations in paths.items():
        for operation in operations.values():
            add_refusals(operation, path, model.name, options.guards)
            for response in operation["responses"].values():
                response["headers"] = _HEADERS | response.get("headers", {})
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictor of {model.name}",
            "version": __version__,
            "description": f"Version {model.version} of {model.name} ({model.info.task}, {model.info.architecture}). "
            f"Bodies may have {options.max_body_bytes} bytes and come as gzip.",
        },
        **describe_security(options.guards),
        "paths": paths,
    }
    return orjson.dumps(document)


def _predict(model: LoadedModel) -> dict[str, Any]:
    signature = model.info.signature
    inputs = find_inputs(model)
    example = None if inputs is None else write_v1_example(signature, inputs)
    columns = {column.name: column for column in model.info.columns}
    return {
        "operationId": "predict",
        "summary": "Predict: instances in, labels and probabilities out (V1).",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": _bodies(model, v1_request(signature, columns), example)},
        "responses": _responses({"application/json": {"schema": v1_response(model.info.class_names)}}),
    }


def _infer(model: LoadedModel) -> dict[str, Any]:
    signature = model.info.signature
    inputs: Mapping[str, NDArray[Any]] | None = find_inputs(model)
    example = None if inputs is None else write_v2_example(signature, inputs)
    bodies = _bodies(model, v2_request(signature), example)
    bodies.setdefault(
        "application/octet-stream", {"schema": {"description": "JSON and the raw tensors behind it (binary tensor data)."}}
    )
    answers = {
        "application/json": {"schema": v2_response(signature, model.name, model.version)},
        "application/octet-stream": {"schema": {"description": "JSON and the raw tensors behind it."}},
    }
    return {
        "operationId": "infer",
        "summary": "Infer: tensors in, tensors out (Open Inference Protocol, V2).",
        "parameters": [*_PARAMETERS, _JSON_SIZE],
        "requestBody": {"required": True, "content": bodies},
        "responses": _responses(answers),
    }


def _bodies(model: LoadedModel, schema: Schema, example: Any) -> dict[str, Any]:
    bodies: dict[str, Any] = {"application/json": {"schema": schema, **({} if example is None else {"example": example})}}
    if find_image_spec(model.info.signature) is not None:
        bodies |= {media_type: {"schema": {"description": "An image file."}} for media_type in MEDIA_TYPES}
        file = {"type": "string", "format": "binary"}
        bodies["multipart/form-data"] = {
            "schema": {"type": "object", "properties": {"image": {"type": "array", "items": file}}, "required": ["image"]}
        }
    return bodies


def _responses(answers: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": "The answer.", "headers": _ANSWER_HEADERS, "content": answers}} | {
        status: error_answer(told) for status, told in _ERRORS.items()
    }


def _read(
    operation: str, summary: str, schema: Schema, *, media_types: tuple[str, ...] = ("application/json",), not_ready: bool = False
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": summary, "content": {media_type: {"schema": schema} for media_type in media_types}},
        **{status: error_answer(told) for status, told in _READ_ERRORS.items()},
    }
    if not_ready:
        content = {"application/json": {"schema": {"anyOf": [schema, ERROR]}}}
        responses["503"] = {"description": "Not ready: the process is about to end.", "content": content}
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


_PARAMETERS = [
    {
        "name": "top_k",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        "description": "Only the most probable classes, that many.",
    },
    {
        "name": "x-request-id",
        "in": "header",
        "schema": _REQUEST_ID,
        "description": "Comes back in the answer.",
    },
    {
        "name": "x-timeout-seconds",
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_SECONDS},
        "description": "After which nobody waits for the answer.",
    },
]
_JSON_SIZE = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "schema": {"type": "integer", "minimum": 1},
    "description": "Bytes of the JSON, where raw tensors stand behind it.",
}
