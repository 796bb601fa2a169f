"""The methods of the protocol over gRPC: who may ask, for what, and what they are told.

Messages come and go as bytes: they are parsed by the threads that decode bodies, and one that is damaged is its sender's error.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import grpc
from numpy.typing import NDArray

from slipway.errors import DeadlineError, NotServedError, RequestError
from slipway.serving.exchange import Exchange, Observer
from slipway.serving.grpc import messages
from slipway.serving.grpc.fields import check_num_fields
from slipway.serving.grpc.reception import Reception
from slipway.serving.grpc.wire import GrpcRequest, decode, read_request, write_response
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.failures import describe_failure
from slipway.serving.http.refusal import Refusal
from slipway.serving.http.request_id import choose_request_id, choose_stated_id
from slipway.serving.inference.model import LoadedModel, ModelSlot
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.access import Access, client_of
from slipway.serving.wire.metadata import describe_model, describe_server
from slipway.serving.wire.rows import check_categories

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
_PROBE, _PREDICTION = "/v2/health/live", "/v2/models/model/infer"
"""What the methods are to `Access`."""
_SERVING, _NOT_SERVING = 1, 2
_CLIENT_CLOSED = 499
_MAX_SENTENCE = 2000
_CODES = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Context = Any
"""grpc.aio.ServicerContext; the package has no types."""
Method = Callable[[bytes, Context, Mapping[str, str]], Awaitable[bytes]]


class _Failed(Exception):  # noqa: N818  # it is an answer
    """A prediction that has been accounted for."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class InferenceService(grpc.GenericRpcHandler):  # type: ignore[misc]  # the package has no types
    """Answers with whatever model a slot holds."""

    def __init__(
        self,
        slot: ModelSlot,
        options: AppOptions,
        access: Access,
        observers: Sequence[Observer],
        refusals: Refusals,
        *,
        reception: Reception,
        probe_reception: Reception,
    ) -> None:
        """Messages of probes, which everybody may send, have a `Reception` of their own: they keep no place from others."""
        self._slot = slot
        self._options = options
        self._access = access
        self._observers = tuple(observers)
        self._refusals = refusals
        methods: dict[str, tuple[Method, str, Reception | None]] = {  # None: its message says nothing, and is not read
            f"/{INFERENCE}/ServerLive": (self._report_live, _PROBE, None),
            f"/{INFERENCE}/ServerReady": (self._report_ready, _PROBE, None),
            f"/{INFERENCE}/ModelReady": (self._report_model_ready, _PROBE, probe_reception),
            f"/{INFERENCE}/ServerMetadata": (self._describe_server, _PREDICTION, None),
            f"/{INFERENCE}/ModelMetadata": (self._describe_model, _PREDICTION, reception),
            f"/{INFERENCE}/ModelInfer": (self._infer, _PREDICTION, reception),
            f"/{HEALTH}/Check": (self._check_health, _PROBE, probe_reception),
        }
        # As streams of one message: who may not ask is refused before the message is read.
        self._handlers = {
            name: grpc.stream_unary_rpc_method_handler(partial(self._answer, name, method, path, reception))
            for name, (method, path, reception) in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """See grpc.GenericRpcHandler."""
        return self._handlers.get(handler_call_details.method)

    async def _answer(
        self,
        name: str,
        method: Method,
        path: str,
        reception: Reception | None,
        requests: AsyncIterator[bytes],
        context: Context,
    ) -> bytes:
        stated = [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]
        request_id = choose_stated_id({value for key, value in stated if key == "x-request-id"})
        metadata = {**dict(stated), "x-request-id": request_id}
        context.set_trailing_metadata((("x-request-id", request_id),))
        address = _find_address(context.peer())
        refusal = self._access.find_refusal(
            path,
            authorization=metadata.get("authorization", ""),
            address=address,
            has_certificate=bool(context.peer_identities()),
        )
        body = b""
        if refusal is None and reception is not None:
            try:
                body = await reception.read(requests, client=client_of(address), seconds=context.time_remaining())
            except (RequestError, DeadlineError) as error:
                refusal = describe_failure(error, name, request_id)
        if refusal is not None:
            self._refusals.observe(refusal.status, request_id=request_id, address=address)
        else:
            try:
                return await method(body, context, metadata)
            except _Failed as failed:
                refusal = failed.refusal
            except Exception as error:  # noqa: BLE001  # whatever it is, there is an answer to it, without a stack trace
                refusal = describe_failure(error, name, request_id)
        trailing = [(key.decode(), value.decode()) for key, value in refusal.headers]
        code = _CODES.get(HTTPStatus(refusal.status), grpc.StatusCode.INTERNAL)
        context.set_trailing_metadata((*context.trailing_metadata(), *trailing))
        context.set_code(code)
        context.set_details(refusal.sentence[:_MAX_SENTENCE])
        return b""

    async def _report_live(self, _body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        return _write(messages.ServerLiveResponse(live=True))

    async def _report_ready(self, _body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        return _write(messages.ServerReadyResponse(ready=not self._slot.draining))

    async def _report_model_ready(self, body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        request = decode(messages.ModelReadyRequest, body)
        self._slot.current.check_probe(request.name, request.version or None)
        return _write(messages.ModelReadyResponse(ready=not self._slot.draining))

    async def _describe_server(self, _body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        return _write(messages.ServerMetadataResponse(**describe_server()))

    async def _describe_model(self, body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        request = decode(messages.ModelMetadataRequest, body)
        model = self._slot.current
        model.check_name(request.name, request.version or None)
        described = describe_model(model.info, name=model.name, version=model.version, serving={})
        described.pop("parameters")
        return _write(messages.ModelMetadataResponse(**described))

    async def _check_health(self, body: bytes, _context: Context, _metadata: Mapping[str, str]) -> bytes:
        service = decode(messages.HealthCheckRequest, body).service
        if service not in ("", INFERENCE):
            raise NotServedError(f"Service {service[:200]!r} is not here; accepted: {INFERENCE}, or none.")
        return _write(messages.HealthCheckResponse(status=_NOT_SERVING if self._slot.draining else _SERVING))

    async def _infer(self, body: bytes, context: Context, metadata: Mapping[str, str]) -> bytes:
        model = self._slot.current
        exchange = Exchange(
            request_id=metadata["x-request-id"],
            wire="grpc",
            received_at=perf_counter(),
            traceparent=metadata.get("traceparent", ""),
            status=HTTPStatus.OK,
        )
        exchange.begin_deadline(self._options.default_deadline_seconds, context.time_remaining())
        inputs: Mapping[str, NDArray[Any]] | None = None
        outputs: Mapping[str, NDArray[Any]] | None = None
        if self._options.begin_trace is not None:
            self._options.begin_trace(exchange)
        self._slot.num_in_flight += 1
        try:
            read = partial(_read, model, self._options, exchange)
            request, predicted = await self._slot.decode_and_predict(model, exchange, len(body), read, body)
            write = partial(
                write_response,
                request,
                predicted,
                signature=model.info.signature,
                name=model.name,
                version=model.version,
                class_names=model.info.class_names,
            )
            answer = await self._slot.write(write, predicted)
            inputs, outputs = request.inputs, predicted
            return answer
        except asyncio.CancelledError:
            exchange.status = _CLIENT_CLOSED
            raise
        except Exception as error:  # noqa: BLE001  # see `_answer`
            refusal = describe_failure(error, f"{INFERENCE}/ModelInfer", exchange.request_id)
            exchange.status = refusal.status
            raise _Failed(refusal) from None
        finally:
            self._slot.num_in_flight -= 1
            context.set_trailing_metadata((("x-request-id", exchange.request_id), ("x-model-version", model.version)))
            for observer in self._observers:
                observer.observe(exchange, model, inputs, outputs)


def _read(model: LoadedModel, options: AppOptions, exchange: Exchange, body: bytes) -> GrpcRequest:
    """On a thread of the slot's."""
    check_num_fields(body)
    message = decode(messages.ModelInferRequest, body)
    exchange.request_id = choose_request_id(message.id, exchange.request_id)
    model.check_name(message.model_name, message.model_version or None)
    request = read_request(message, model.info.signature, options.rows)
    if request.wanted.timeout_seconds is not None:
        exchange.limit_to(request.wanted.timeout_seconds)
    check_categories(request.inputs, model.info.categories, options.rows)
    return request


def _write(message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body


def _find_address(peer: str) -> str:
    """The address in gRPC's `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; "" for another kind of client."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
