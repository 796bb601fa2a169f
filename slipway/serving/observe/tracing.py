"""Traces in OpenTelemetry's form: a span a request, with decoding, waiting and inference as its children.

A request's place in its trace (W3C Trace Context) is decided when it comes, so that its answer can name it; its spans are made of
the exchange's times once it is answered. A thread of its own sends them, and what comes faster than that is dropped. This module
imports OpenTelemetry: import it only where traces are wanted.
"""

import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

from slipway import __version__
from slipway.errors import ConfigError
from slipway.log import get_logger
from slipway.serving.exchange import Exchange, TracePlace

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from slipway.serving.inference.model import LoadedModel

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACE_BITS, _SPAN_BITS, _RANDOM_BITS = 128, 64, 56
_SERVER_ERROR = 500
_EXPORT_SECONDS = 5.0
_COMPLAINT_SECONDS = 60.0
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TracingOptions:
    """Where spans go, and of which requests."""

    endpoint: str
    """Of a collector that takes OTLP over HTTP: `http://collector:4318`."""
    rate: float = 1.0
    """Share of the traces that begin here; one that a client began is followed where the client samples it."""

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"--tracing-endpoint is {self.endpoint!r}; accepted: http://HOST:4318, or https://.")


class _NextIds(IdGenerator):
    """Gives the next span the ids that were decided for it, and random ones to all others."""

    def __init__(self) -> None:
        self.place: TracePlace | None = None

    def generate_trace_id(self) -> int:
        return self.place.trace_id if self.place is not None else secrets.randbits(_TRACE_BITS)

    def generate_span_id(self) -> int:
        place, self.place = self.place, None
        return place.span_id if place is not None else secrets.randbits(_SPAN_BITS)


class Tracing:
    """An observer that makes spans, until `close`."""

    def __init__(self, options: TracingOptions) -> None:
        self._rate = options.rate
        self._ids = _NextIds()
        exporter = OTLPSpanExporter(options.endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_SECONDS)
        resource = Resource.create({"service.name": "slipway", "service.version": __version__})
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("slipway.serving", __version__)
        _pass_on_complaints()

    def begin(self, exchange: Exchange) -> None:
        """Decide where the request stands in which trace: `exchange.trace` says it."""
        span_id = secrets.randbits(_SPAN_BITS)
        client = _parse(exchange.traceparent)
        if client is None:
            trace_id, parent_id = secrets.randbits(_TRACE_BITS), None
            is_sampled = trace_id & ((1 << _RANDOM_BITS) - 1) < self._rate * (1 << _RANDOM_BITS)
        else:
            trace_id, parent_id, is_sampled = client
        exchange.trace = TracePlace(trace_id=trace_id, span_id=span_id, parent_id=parent_id, is_sampled=is_sampled)

    def observe(
        self,
        exchange: Exchange,
        model: "LoadedModel",
        inputs: Mapping[str, NDArray[Any]] | None,  # noqa: ARG002
        outputs: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """See `Observer.observe`."""
        place = exchange.trace
        if place is None or not place.is_sampled:
            return
        now = time.perf_counter()
        to_epoch = time.time() - now
        self._ids.place = place
        span = self._tracer.start_span(
            f"infer {model.name}",
            context=_parent_context(place),
            kind=SpanKind.SERVER,
            attributes=_describe(exchange, model),
            start_time=_nanoseconds(exchange.received_at + to_epoch),
        )
        if exchange.status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        if outputs is not None:
            self._add_children(span, exchange, to_epoch)
        span.end(_nanoseconds(now + to_epoch))

    def close(self, timeout_seconds: float) -> bool:
        """Send what waits, for at most so long; whether that was enough."""
        thread = Thread(target=self._provider.shutdown, name="end-tracing", daemon=True)
        thread.start()
        thread.join(timeout_seconds)
        return not thread.is_alive()

    def _add_children(self, parent: Span, exchange: Exchange, to_epoch: float) -> None:
        context = set_span_in_context(parent)
        inference_at = exchange.decoded_at + exchange.queue_seconds
        for name, start, seconds in (
            ("decode", exchange.decoded_at - exchange.decode_seconds, exchange.decode_seconds),
            ("queue", exchange.decoded_at, exchange.queue_seconds),
            ("inference", inference_at, exchange.inference_seconds),
        ):
            child = self._tracer.start_span(name, context=context, start_time=_nanoseconds(start + to_epoch))
            child.end(_nanoseconds(start + seconds + to_epoch))


def _parse(traceparent: str) -> tuple[int, int, bool] | None:
    """(trace, span, whether it is sampled)."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    return (trace_id, span_id, bool(flags & TraceFlags.SAMPLED)) if trace_id and span_id else None


def _parent_context(place: TracePlace) -> "Context | None":
    if place.parent_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED)
    return set_span_in_context(NonRecordingSpan(SpanContext(place.trace_id, place.parent_id, is_remote=True, trace_flags=flags)))


def _describe(exchange: Exchange, model: "LoadedModel") -> dict[str, str | int]:
    return {
        "http.response.status_code": exchange.status,
        "slipway.request_id": exchange.request_id,
        "slipway.protocol": exchange.wire,
        "slipway.model": model.name,
        "slipway.version": model.version,
        "slipway.num_samples": exchange.num_samples,
        "slipway.batch_size": exchange.batch_size,
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


class _Complaints(logging.Handler):
    """What the exporter has to complain about, once a minute, in this process's own log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _COMPLAINT_SECONDS
            _log.warning("traces_not_sent", reason=record.getMessage())


def _pass_on_complaints() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    logger.handlers = [_Complaints()]
