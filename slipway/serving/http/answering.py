"""From a request for a prediction to its answer: which form it is in, what it asks for, what goes back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.data.decoding import has_image_magic
from slipway.errors import RequestError
from slipway.serving.exchange import MAX_DEADLINE_SECONDS, Exchange, Wire
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.disconnects import CancelOnDisconnect
from slipway.serving.http.messages import HttpError, Receive, Request, Response, unpack_gzip
from slipway.serving.http.request_id import choose_request_id
from slipway.serving.inference.model import LoadedModel, ModelSlot
from slipway.serving.wire import v1, v2
from slipway.serving.wire.answers import suggest
from slipway.serving.wire.images import MEDIA_TYPES, ImageReader, require_image_spec
from slipway.serving.wire.request import InferRequest, SeveralParts, all_outputs, merge_outputs
from slipway.serving.wire.rows import check_categories

Outputs = dict[str, NDArray[Any]]
Protocol = Literal["v1", "v2"]

_ACCEPTED_TYPES = ("application/json", *MEDIA_TYPES, "multipart/form-data", "application/octet-stream")
_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "text/plain")
_MAX_DIGITS = 9


class Answering:
    """Answers requests for predictions with the model in a slot."""

    def __init__(self, slot: ModelSlot, options: AppOptions) -> None:
        self._slot = slot
        self._options = options

    async def answer(
        self, request: Request, receive: Receive, protocol: Protocol, model: LoadedModel, exchange: Exchange
    ) -> tuple[Response, InferRequest, Outputs]:
        """Read, predict, write; fills in the exchange.

        Raises:
            RequestError: the model does not take what was sent.
            HttpError: the request is refused for its form.
            Disconnected: the client went away.
            OverloadedError, DeadlineError, PredictionError: see `ModelSlot.predict`.
        """
        exchange.begin_deadline(self._options.default_deadline_seconds, _parse_timeout(request.header(b"x-timeout-seconds")))
        parse, exchange.wire = self._choose_form(request, protocol, model, exchange)
        is_packed = request.is_packed
        body = await request.read_body(self._options.max_body_bytes)
        parse = partial(_parse, parse, is_packed, self._options, model, exchange)
        async with CancelOnDisconnect(receive):
            wanted, outputs = await self._predict(model, exchange, parse, body)
        if protocol == "v2" and wanted.id is None and b"x-request-id" in request.headers:
            wanted = replace(wanted, id=exchange.request_id)
        response = await self._slot.write(partial(_write, protocol, wanted, outputs, model), outputs)
        return response, wanted, outputs

    async def _predict(
        self, model: LoadedModel, exchange: Exchange, parse: Callable[[bytes], InferRequest], body: bytes
    ) -> tuple[InferRequest, Outputs]:
        try:
            return await self._slot.decode_and_predict(model, exchange, len(body), parse, body)
        except SeveralParts as several:
            wanted = several.request
        exchanges = [replace(exchange) for _ in wanted.parts]
        tasks = [
            asyncio.ensure_future(self._slot.predict(model, part, own, is_let_in=place > 0))
            for place, (part, own) in enumerate(zip(wanted.parts, exchanges, strict=True))
        ]
        try:
            parts = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        exchange.num_samples = sum(own.num_samples for own in exchanges)
        exchange.queue_seconds = max(own.decoded_at + own.queue_seconds for own in exchanges) - exchange.decoded_at
        exchange.inference_seconds = max(own.inference_seconds for own in exchanges)
        exchange.batch_size = max(own.batch_size for own in exchanges)
        return wanted, merge_outputs(wanted, parts)

    def _choose_form(
        self, request: Request, protocol: Protocol, model: LoadedModel, exchange: Exchange
    ) -> tuple[Callable[[bytes], InferRequest], Wire]:
        signature, rows = model.info.signature, self._options.rows
        media_type = request.media_type
        query = request.query(("top_k",))
        top_k = _parse_top_k(query.get("top_k"))
        json_size = request.count(b"inference-header-content-length")
        if media_type in MEDIA_TYPES:
            return partial(_parse_image, model, top_k), "image"
        is_json = media_type in _JSON_TYPES or (media_type.startswith("application/") and media_type.endswith("+json"))
        parse_v2 = partial(v2.parse_request, signature=signature, policy=rows, top_k=top_k, on_id=partial(_take_id, exchange))
        if media_type == "multipart/form-data":
            return partial(_parse_form, model, top_k, request.header(b"content-type")), "image"
        if protocol == "v2" and json_size is not None and (is_json or media_type == "application/octet-stream"):
            return partial(parse_v2, json_size=json_size), "v2-binary"
        if media_type == "application/octet-stream":
            return partial(_parse_image_by_magic, model, top_k), "image"
        if not is_json:
            told = f"Content-Type is {media_type[:60]!r}; accepted: {suggest(media_type, _ACCEPTED_TYPES)}."
            raise HttpError(415, told, headers=((b"accept", ", ".join(_ACCEPTED_TYPES).encode()),))
        if protocol == "v2":
            return partial(_parse_json, parse_v2, media_type), "v2"
        min_side = model.info.image_min_side
        parse_v1 = partial(v1.parse_request, signature=signature, policy=rows, top_k=top_k, image_min_side=min_side)
        return partial(_parse_json, parse_v1, media_type), "v1"


def _parse(
    parse: Callable[[bytes], InferRequest],
    is_packed: bool,
    options: AppOptions,
    model: LoadedModel,
    exchange: Exchange,
    body: bytes,
) -> InferRequest:
    """On a thread of the slot's."""
    if is_packed:
        body = unpack_gzip(body, options.max_body_bytes)
    try:
        wanted = parse(body)
    except RecursionError:
        raise RequestError("The body is nested too deeply; accepted: what the model's signature needs.") from None
    if wanted.timeout_seconds is not None:
        exchange.limit_to(wanted.timeout_seconds)
    for part in wanted.parts:
        check_categories(part, model.info.categories, options.rows)
    return wanted


def _take_id(exchange: Exchange, request_id: str) -> None:
    exchange.request_id = choose_request_id(request_id, exchange.request_id)


def _parse_json(parse: Callable[[bytes], InferRequest], media_type: str, body: bytes) -> InferRequest:
    if has_image_magic(body):
        told = f"{media_type[:60]!r}" if media_type else "missing"
        raise RequestError(f"The body is an image file, and Content-Type is {told}; accepted for one: {', '.join(MEDIA_TYPES)}.")
    return parse(body)


def _parse_image(model: LoadedModel, top_k: int, body: bytes) -> InferRequest:
    signature = model.info.signature
    spec = require_image_spec(signature)
    image = ImageReader(spec, min_side=model.info.image_min_side).read(body, "The image")
    return InferRequest(parts=({spec.name: image[np.newaxis]},), outputs=all_outputs(signature, top_k=top_k), top_k=top_k)


def _parse_image_by_magic(model: LoadedModel, top_k: int, body: bytes) -> InferRequest:
    if not has_image_magic(body):
        raise HttpError(
            415,
            "Content-Type is application/octet-stream, the body is no JPEG, PNG or WebP file, and the header "
            "Inference-Header-Content-Length, which V2's binary tensors need, is missing; accepted: one of the two.",
        )
    return _parse_image(model, top_k, body)


def _parse_form(model: LoadedModel, top_k: int, content_type: str, body: bytes) -> InferRequest:
    from slipway.serving.wire.multipart import parse_images

    signature = model.info.signature
    request = parse_images(body, content_type, signature, min_side=model.info.image_min_side)
    return replace(request, outputs=all_outputs(signature, top_k=top_k), top_k=top_k)


def _write(protocol: Protocol, wanted: InferRequest, outputs: Outputs, model: LoadedModel) -> Response:
    info = model.info
    if protocol == "v1":
        body = v1.write_response(wanted, outputs, signature=info.signature, class_names=info.class_names)
        return Response(body=body)
    body, json_size = v2.write_response(
        wanted, outputs, signature=info.signature, name=model.name, version=model.version, class_names=info.class_names
    )
    if json_size is None:
        return Response(body=body)
    size = [(b"inference-header-content-length", b"%d" % json_size)]
    return Response(body=body, media_type=b"application/octet-stream", headers=size)


def _parse_top_k(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS or int(text) < 1:
        raise RequestError(f"top_k is {text[:60]!r} in the query; accepted: a whole number of classes, 1 or more.")
    return int(text)


def _parse_timeout(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text) if "_" not in text else -1.0  # which Python alone takes
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_DEADLINE_SECONDS:
        accepted = f"a number of seconds above 0, at most {MAX_DEADLINE_SECONDS}"
        raise HttpError(400, f"The header x-timeout-seconds is {text[:60]!r}; accepted: {accepted}.")
    return seconds
