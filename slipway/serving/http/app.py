"""The predictor as an ASGI application: paths to answers. Own routing over raw ASGI, which costs microseconds."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from slipway.serving.exchange import Exchange, Observer
from slipway.serving.http.answering import Answering, Protocol
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.failures import describe_failure
from slipway.serving.http.messages import Disconnected, HttpError, Receive, Request, Response, Scope, Send, json_response
from slipway.serving.http.page import accepts_page, read_page
from slipway.serving.http.request_id import request_id_of
from slipway.serving.http.routes import Operation, Route, find_route
from slipway.serving.inference.model import LoadedModel, ModelSlot
from slipway.serving.wire.metadata import describe_model, describe_server
from slipway.serving.wire.request import merge_inputs

_CLOSED_REQUEST = 499
"""What the client that went away is counted as."""


class Application:
    """Answers with whatever model a slot holds."""

    def __init__(self, slot: ModelSlot, options: AppOptions, observers: Sequence[Observer]) -> None:
        self._slot = slot
        self._options = options
        self._observers = tuple(observers)
        self._answering = Answering(slot, options)
        self._document: tuple[weakref.ref[LoadedModel], bytes] | None = None
        """Of the model that was served when it was made, which is not held by it: an old one is to leave memory."""
        self._reads: dict[Operation, Callable[[Request, Route], Response]] = {
            "alive": self._report_alive,
            "docs": lambda _request, _route: _show_page(),
            "metrics": self._report_metrics,
            "server": lambda _request, _route: json_response(describe_server()),
            "live": lambda _request, _route: json_response({"live": True}),
            "server_ready": lambda _request, _route: json_response({"ready": not slot.draining}, status=self._ready_status),
            "list_v2": self._list_models,
            "list_v1": self._list_models,
            "index": self._list_repository,
            "model": self._describe_model,
            "ready": self._report_model_ready,
            "model_v1": self._report_model_ready,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification. The server in front speaks HTTP alone."""
        received_at = perf_counter()
        observe: Callable[[int], None] | None = None
        try:
            request = Request(scope, receive)
            route = find_route(request.path)
            if route is not None and route.operation in ("infer", "predict") and request.method == "POST":
                response, observe = await self._predict(request, route, receive, received_at)
            else:
                response = await self._read(request, route)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, there is an answer to it, without a stack trace
            response = _answer_error(error, scope["path"], request_id_of(scope))
        if observe is None:  # a prediction has said it already, and may have found another id in the body
            response.headers.append((b"x-request-id", request_id_of(scope).encode()))
        await _send(send, response, with_body=scope["method"] != "HEAD", is_last=self._slot.draining)
        if observe is not None:
            observe(response.status)

    async def _predict(
        self, request: Request, route: Route, receive: Receive, received_at: float
    ) -> tuple[Response, Callable[[int], None]]:
        """The answer, and what is to be called once it is on its way."""
        model = self._slot.current
        protocol: Protocol = "v2" if route.operation == "infer" else "v1"
        exchange = Exchange(
            request_id=request.id,
            wire=protocol,
            received_at=received_at,
            traceparent=request.header(b"traceparent"),
        )
        if self._options.begin_trace is not None:
            self._options.begin_trace(exchange)
        inputs: Mapping[str, NDArray[Any]] | None = None
        outputs: Mapping[str, NDArray[Any]] | None = None

        def observe(status: int) -> None:
            exchange.status = status
            for observer in self._observers:
                observer.observe(exchange, model, inputs, outputs)

        self._slot.num_in_flight += 1
        try:
            model.check_name(route.name, route.version)
            response, wanted, outputs = await self._answering.answer(request, receive, protocol, model, exchange)
            inputs = merge_inputs(wanted)
        except Disconnected:
            observe(_CLOSED_REQUEST)
            raise
        except Exception as error:  # noqa: BLE001
            response = _answer_error(error, request.path, exchange.request_id)
        finally:
            self._slot.num_in_flight -= 1
        response.headers += [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-model-version", model.version.encode("latin-1", "replace")),
            (b"server-timing", _write_timing(exchange)),
        ]
        if exchange.trace is not None:
            response.headers.append((b"traceparent", exchange.trace.traceparent.encode()))
        return response, observe

    async def _read(self, request: Request, route: Route | None) -> Response:
        if request.path == "*" and request.method == "OPTIONS":  # of the server as a whole
            return Response(status=HTTPStatus.NO_CONTENT, headers=[(b"allow", b"GET, HEAD, POST, OPTIONS")])
        if route is None or not self._is_offered(route.operation):
            accepted = "the paths in /openapi.json, such as /v2/models" if self._options.docs else "/v2/models and others"
            raise HttpError(404, f"There is nothing at {request.path[:200]!r}; accepted: {accepted}.")
        if request.method not in route.methods:
            allow = (b"allow", ", ".join(route.methods).encode())
            raise HttpError(
                405,
                f"The method {request.method[:20]!r} is not for {request.path[:200]}; accepted: {', '.join(route.methods)}.",
                headers=(allow,),
            )
        if request.method == "OPTIONS":
            return Response(status=HTTPStatus.NO_CONTENT, headers=[(b"allow", ", ".join(route.methods).encode())])
        if route.operation == "openapi":
            return await self._describe_interface()
        return self._reads[route.operation](request, route)

    def _is_offered(self, operation: Operation) -> bool:
        if operation == "metrics":
            return self._options.metrics is not None
        return self._options.docs or operation not in ("docs", "openapi")

    def _report_alive(self, request: Request, _route: Route) -> Response:
        """A person's browser gets the page instead."""
        if self._options.docs and accepts_page(request.header(b"accept")):
            return _show_page()
        response = json_response({"status": "alive"})
        if self._options.docs:
            response.headers.append((b"vary", b"accept"))
        return response

    async def _describe_interface(self) -> Response:
        from slipway.serving.http.openapi import write_document

        model = self._slot.current
        if self._document is not None and self._document[0]() is model:
            return Response(body=self._document[1])
        document = await self._slot.decode(write_document, model, self._options)
        self._document = (weakref.ref(model), document)
        return Response(body=document)

    def _report_metrics(self, request: Request, _route: Route) -> Response:
        if self._options.metrics is None:
            raise HttpError(404, "The metrics are switched off.")
        body, media_type = self._options.metrics(request.header(b"accept"))
        return Response(body=body, media_type=media_type.encode())

    def _list_models(self, _request: Request, _route: Route) -> Response:
        return json_response({"models": [self._slot.current.name]})

    def _list_repository(self, _request: Request, _route: Route) -> Response:
        model, draining = self._slot.current, self._slot.draining
        state = {"state": "UNAVAILABLE" if draining else "READY", "reason": "the server is about to end" if draining else ""}
        return json_response([{"name": model.name, "version": model.version, **state}])

    def _describe_model(self, _request: Request, route: Route) -> Response:
        model = self._slot.current
        model.check_name(route.name, route.version)
        return json_response(describe_model(model.info, name=model.name, version=model.version, serving=_describe_engine(model)))

    def _report_model_ready(self, _request: Request, route: Route) -> Response:
        model = self._slot.current
        model.check_probe(route.name, route.version)
        return json_response({"name": model.name, "ready": not self._slot.draining}, status=self._ready_status)

    @property
    def _ready_status(self) -> int:
        return HTTPStatus.SERVICE_UNAVAILABLE if self._slot.draining else HTTPStatus.OK


def _show_page() -> Response:
    page, headers = read_page()
    return Response(body=page, media_type=b"text/html; charset=utf-8", headers=list(headers))


def _describe_engine(model: LoadedModel) -> dict[str, Any]:
    info = model.engine.info
    return {
        "engine": info.name,
        "engine_version": info.version,
        "device": info.device,
        "precision": info.precision,
        "num_threads": info.num_threads,
        "engine_reason": info.reason,
    }


def _write_timing(exchange: Exchange) -> bytes:
    """What took how many milliseconds."""
    decode, queue, inference = exchange.decode_seconds * 1e3, exchange.queue_seconds * 1e3, exchange.inference_seconds * 1e3
    return b"decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f" % (decode, queue, inference)


def _answer_error(error: Exception, path: str, request_id: str) -> Response:
    refusal = describe_failure(error, path, request_id)
    return Response(status=refusal.status, body=refusal.body, headers=list(refusal.headers))


async def _send(send: Send, response: Response, *, with_body: bool, is_last: bool) -> None:
    headers = [(b"content-type", response.media_type), (b"content-length", b"%d" % len(response.body)), *response.headers]
    if response.status == HTTPStatus.NO_CONTENT:
        headers = response.headers
    if is_last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
