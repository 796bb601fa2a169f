"""The predictor's HTTP face: the Open Inference Protocol (V2), and images as they are."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway import __version__
from slipway.errors import RequestError
from slipway.export.signature import Signature
from slipway.log import get_logger
from slipway.serving.images import MEDIA_TYPES, parse_image
from slipway.serving.model import LoadedModel, ModelSlot
from slipway.serving.protocol import InferRequest, describe_model, parse_request, write_response

MAX_BODY_BYTES = 32 * 1024 * 1024
_REFUSED_MEDIA_TYPES = ("image/", "multipart/", "application/octet-stream")

_log = get_logger(__name__)


def create_app(slot: ModelSlot, *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """An application that answers with whatever model `slot` holds."""
    predictor = _Predictor(slot, max_body_bytes)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    routes = [
        Route("/v2", predictor.describe_server),
        Route("/v2/health/live", predictor.report_live),
        Route("/v2/health/ready", predictor.report_ready),
        Route("/v2/models", predictor.list_models),
    ]
    for prefix in (model, version):
        routes += [
            Route(prefix, predictor.describe_model),
            Route(prefix + "/ready", predictor.report_model_ready),
            Route(prefix + "/infer", predictor.infer, methods=["POST"]),
        ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        HTTPException: _answer_http_error,
        RequestError: _answer_bad_request,
        ClientDisconnect: _answer_disconnect,
        Exception: _answer_failure,
    }
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(_CloseWhileDraining, slot=slot)])


class _CloseWhileDraining:
    """While the server drains, each answer is its connection's last, so that clients open their next one elsewhere."""

    def __init__(self, app: ASGIApp, slot: ModelSlot) -> None:
        self._app = app
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if self._slot.draining and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_on)


class _Predictor:
    def __init__(self, slot: ModelSlot, max_body_bytes: int) -> None:
        self._slot = slot
        self._max_body_bytes = max_body_bytes

    async def describe_server(self, _request: Request) -> Response:
        return _json({"name": "slipway", "version": __version__, "extensions": []})

    async def report_live(self, _request: Request) -> Response:
        return _json({"live": True})

    async def report_ready(self, _request: Request) -> Response:
        return _json({"ready": not self._slot.draining}, status=self._ready_status)

    async def list_models(self, _request: Request) -> Response:
        return _json({"models": [self._slot.current.name]})

    async def describe_model(self, request: Request) -> Response:
        model = self._find_model(request)
        return _json(describe_model(model.info, name=model.name, version=model.version))

    async def report_model_ready(self, request: Request) -> Response:
        model = self._find_model(request)
        return _json({"name": model.name, "ready": not self._slot.draining}, status=self._ready_status)

    async def infer(self, request: Request) -> Response:
        model = self._find_model(request)
        signature = model.info.signature
        media_type = _media_type(request)
        wanted = await asyncio.to_thread(_parse_body, await self._read_body(request), media_type, signature)
        outputs = await self._slot.predict(model, wanted.inputs)
        return Response(
            write_response(wanted, outputs, signature=signature, name=model.name, version=model.version),
            media_type="application/json",
        )

    @property
    def _ready_status(self) -> int:
        return HTTPStatus.SERVICE_UNAVAILABLE if self._slot.draining else HTTPStatus.OK

    def _find_model(self, request: Request) -> LoadedModel:
        model = self._slot.current
        name = request.path_params["name"]
        if name != model.name:
            raise HTTPException(404, f"Model {name!r} is not served here; accepted: {model.name}.")
        version = request.path_params.get("version", model.version)
        if version != model.version:
            raise HTTPException(404, f"Version {version!r} of {name} is not served here; accepted: {model.version}.")
        return model

    async def _read_body(self, request: Request) -> bytes:
        refusal = HTTPException(413, f"The body is too large; accepted: at most {self._max_body_bytes} bytes.")
        if int(request.headers.get("content-length", 0)) > self._max_body_bytes:
            raise refusal
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise refusal
        return bytes(body)


def _media_type(request: Request) -> str:
    """The body's media type; JSON is taken under whatever name clients send it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES and media_type.startswith(_REFUSED_MEDIA_TYPES):
        raise HTTPException(415, f"Content-Type is {media_type!r}; accepted: application/json, {', '.join(MEDIA_TYPES)}.")
    return media_type


def _parse_body(body: bytes, media_type: str, signature: Signature) -> InferRequest:
    if media_type not in MEDIA_TYPES:
        return parse_request(body, signature)
    inputs = parse_image(body, signature)
    return InferRequest(id=None, inputs=inputs, outputs=tuple(spec.name for spec in signature.outputs))


async def _answer_http_error(_request: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail}, status=error.status_code, headers=error.headers)


async def _answer_bad_request(_request: Request, error: RequestError) -> Response:
    return _json({"error": str(error)}, status=400)


async def _answer_disconnect(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)


async def _answer_failure(request: Request, error: Exception) -> Response:
    _log.error("request_failed", path=request.url.path, error=repr(error))
    return _json({"error": "The prediction failed for a reason that lies with the server; its log says more."}, status=500)


def _json(content: object, *, status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status_code=status, headers=headers, media_type="application/json")
