"""The predictor's figures in Prometheus' form.

A request only adds to plain numbers, on the event loop; what Prometheus reads is made of them when it asks, also there.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from slipway.data.manifest import PROBABILITIES
from slipway.serving.exchange import Exchange
from slipway.serving.observe.distribution import Distribution

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import CounterMetricFamily, Metric

    from slipway.serving.inference.model import LoadedModel
    from slipway.serving.observe.payload_files import PayloadCounts

MAX_CLASSES = 100
OTHER_CLASSES = "other"
"""Label of the classes beyond those that are counted by themselves."""
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_REJECTIONS = {401: "access", 403: "access", 429: "rate", 503: "overload", 504: "deadline"}
_REFUSALS = {**_REJECTIONS, 400: "not_http", 405: "not_http", 408: "slow", 431: "head", 501: "not_http"}
"""Of what never came to be a request."""

ReloadOutcome = Literal["loaded", "failed"]


class Served(Protocol):
    """What is known of the process itself: `ModelSlot` knows it."""

    @property
    def current(self) -> "LoadedModel":
        """The model that answers."""

    @property
    def draining(self) -> bool:
        """Whether the process is about to end."""

    @property
    def num_in_flight(self) -> int:
        """Requests for predictions that are being answered."""


class Metrics:
    """An observer that counts, and the text that Prometheus reads."""

    def __init__(self, slot: Served, *, max_classes: int = MAX_CLASSES) -> None:
        """Count for the model in `slot`; at most `max_classes` classes by themselves, all others together."""
        self._slot = slot
        self._max_classes = max_classes
        self._started_at = time.monotonic()
        self._refused: Mapping[int, int] = {}
        self._payload: PayloadCounts | None = None
        self._requests: Counter[tuple[str, int]] = Counter()
        self._latencies: dict[str, Distribution] = {}
        self._decode, self._queue, self._inference = (Distribution(_SECONDS) for _ in range(3))
        self._batch_size = Distribution(_BATCH_SIZES)
        self._confidence = Distribution(_CONFIDENCES)
        self._num_samples = 0
        self._classes: dict[str, int] = {}
        self._reloads: Counter[ReloadOutcome] = Counter({"loaded": 0, "failed": 0})
        self._registry: CollectorRegistry | None = None

    def watch(self, *, refused: Mapping[int, int] | None = None, payload: "PayloadCounts | None" = None) -> None:
        """Report also what others count: requests that never came to an exchange, the payload log's rows."""
        self._refused = self._refused if refused is None else refused
        self._payload = payload or self._payload

    def count_reload(self, outcome: ReloadOutcome) -> None:
        """Count one attempt to take another version into service."""
        self._reloads[outcome] += 1

    def observe(
        self,
        exchange: Exchange,
        model: "LoadedModel",
        inputs: Mapping[str, NDArray[Any]] | None,  # noqa: ARG002
        outputs: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """See `Observer.observe`."""
        wire = exchange.wire
        self._requests[wire, exchange.status] += 1
        latency = self._latencies.get(wire)
        if latency is None:
            latency = self._latencies[wire] = Distribution(_SECONDS)
        latency.add(time.perf_counter() - exchange.received_at)
        if outputs is None:
            return
        self._decode.add(exchange.decode_seconds)
        self._queue.add(exchange.queue_seconds)
        self._inference.add(exchange.inference_seconds)
        self._batch_size.add(exchange.batch_size)
        self._num_samples += exchange.num_samples
        probabilities = outputs.get(PROBABILITIES)
        if probabilities is not None:
            self._count_answers(probabilities, model.info.class_names)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The figures now, and their media type: OpenMetrics where the header `accept` asks for it, else Prometheus' own text."""
        from prometheus_client.exposition import choose_encoder

        encode, media_type = choose_encoder(accept)
        return encode(self._open_registry()), media_type

    def collect(self) -> "Iterator[Metric]":
        """All figures now, but for those of the process (`process_*`)."""
        yield from self._collect_requests()
        yield from self._collect_process()
        if self._payload is not None:
            yield from _collect_payload(self._payload)

    def _count_answers(self, probabilities: NDArray[Any], class_names: tuple[str, ...]) -> None:
        if len(probabilities) == 1:
            row = probabilities[0]
            best = int(row.argmax())
            self._confidence.add(float(row[best]))
            self._count_class(class_names[best], 1)
            return
        self._confidence.add_all(probabilities.max(axis=1))
        for best, count in Counter(probabilities.argmax(axis=1).tolist()).items():
            self._count_class(class_names[best], count)

    def _count_class(self, name: str, count: int) -> None:
        if name not in self._classes and len(self._classes) >= self._max_classes:
            name = OTHER_CLASSES
        self._classes[name] = self._classes.get(name, 0) + count

    def _collect_requests(self) -> "Iterator[Metric]":
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "slipway_requests", "Requests for a prediction that were answered.", labels=["protocol", "status"]
        )
        rejected = dict.fromkeys(_REFUSALS.values(), 0)
        for (wire, status), count in self._requests.items():
            requests.add_metric([wire, str(status)], count)
            if status in _REJECTIONS:
                rejected[_REJECTIONS[status]] += count
        yield requests
        for status, count in self._refused.items():
            if status in _REFUSALS:
                rejected[_REFUSALS[status]] += count
        yield _count_by(
            "slipway_rejections", "Requests that were turned away whatever they held, by reason.", "reason", rejected.items()
        )
        latency = HistogramMetricFamily(
            "slipway_request_duration_seconds", "From a request's head to its answer.", labels=["protocol"]
        )
        for wire, distribution in self._latencies.items():
            latency.add_metric([wire], distribution.buckets(), distribution.total)
        yield latency
        for name, text, distribution in (
            ("decode_duration_seconds", "From a request's body to arrays.", self._decode),
            ("queue_duration_seconds", "From arrays to the beginning of their inference.", self._queue),
            ("inference_duration_seconds", "Of the batch that a request was part of, once a request.", self._inference),
            ("batch_size", "Samples that were inferred together, once a request.", self._batch_size),
            ("prediction_confidence", "Probability of the most probable class of each sample.", self._confidence),
        ):
            yield HistogramMetricFamily(f"slipway_{name}", text, buckets=distribution.buckets(), sum_value=distribution.total)
        yield CounterMetricFamily("slipway_samples", "Samples that were answered.", value=self._num_samples)
        yield _count_by("slipway_predictions", "Samples by their most probable class.", "class", self._classes.items())

    def _collect_process(self) -> "Iterator[Metric]":
        from prometheus_client.metrics_core import GaugeMetricFamily

        model, draining = self._slot.current, self._slot.draining
        labels = {
            "name": model.name,
            "version": model.version,
            "bundle_id": model.info.bundle_id,
            "engine": model.engine.info.name,
            "precision": model.engine.info.precision,
        }
        info = GaugeMetricFamily("slipway_model_info", "The model in service; always 1.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        yield _count_by(
            "slipway_reloads", "Attempts to take another version into service, by outcome.", "outcome", self._reloads.items()
        )
        for name, text, value in (
            ("requests_in_flight", "Requests for a prediction under way.", self._slot.num_in_flight),
            ("uptime_seconds", "Since the process began to count.", time.monotonic() - self._started_at),
            ("ready", "1 while the process wants requests, else 0.", not draining),
            ("draining", "1 while the process is about to end, else 0.", draining),
        ):
            yield GaugeMetricFamily(f"slipway_{name}", text, value=value)

    def _open_registry(self) -> "CollectorRegistry":
        if self._registry is None:
            from prometheus_client import CollectorRegistry, ProcessCollector

            self._registry = CollectorRegistry()
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        return self._registry


def _collect_payload(counts: "PayloadCounts") -> "Iterator[Metric]":
    from prometheus_client.metrics_core import CounterMetricFamily

    yield CounterMetricFamily("slipway_payload_log_rows", "Rows of the payload log that were written.", value=counts.num_written)
    yield _count_by(
        "slipway_payload_log_dropped", "Rows that were to be logged and were not, by reason.", "reason", counts.dropped.items()
    )


def _count_by(name: str, text: str, label: str, counts: Iterable[tuple[str, int]]) -> "CounterMetricFamily":
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts:
        family.add_metric([value], count)
    return family
