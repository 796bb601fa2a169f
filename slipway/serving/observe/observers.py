"""All that observes the requests of one process, from its start to its end."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from slipway.log import get_logger
from slipway.serving.exchange import Observer
from slipway.serving.inference.model import ModelSlot
from slipway.serving.observe.access_log import AccessLog
from slipway.serving.observe.metrics import Metrics
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.options import ObservationOptions
from slipway.settings import Settings

if TYPE_CHECKING:
    from slipway.serving.observe.tracing import Tracing

_log = get_logger(__name__)


class _Ending(Protocol):
    def close(self, timeout_seconds: float) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What observes; `close` it when the last answer is on its way."""

    observers: tuple[Observer, ...]
    metrics: Metrics | None
    """None where nobody is to read them."""
    refusals: Refusals
    tracing: "Tracing | None"
    """None where nothing is traced."""
    ending: tuple[tuple[str, _Ending], ...]

    def close(self, timeout_seconds: float) -> None:
        """Write and send what waits, for at most so long in all; what is not done by then is lost, and the log says so."""
        deadline = time.monotonic() + timeout_seconds
        for name, one in self.ending:
            if not one.close(max(deadline - time.monotonic(), 0.0)):
                _log.warning("observation_cut_short", what=name, after_seconds=timeout_seconds)


def start_observation(options: ObservationOptions, slot: ModelSlot, settings: Settings) -> Observation:
    """Start what the options ask for.

    Raises:
        ConfigError: an option names what there is not.
    """
    observers: list[Observer] = []
    ending: list[tuple[str, _Ending]] = []
    metrics = Metrics(slot) if options.metrics else None
    if metrics is not None:
        observers.append(metrics)
    access_log = None
    if options.access_log:
        access_log = AccessLog(rate=options.access_log, slow_seconds=options.access_log_slow_seconds)
        access_log.start()
        observers.append(access_log)
        ending.append(("access log", access_log))
    refusals = Refusals(access_log)
    if metrics is not None:
        metrics.watch(refused=refusals.num_by_status)
    tracing = _start_tracing(options)
    if tracing is not None:
        observers.append(tracing)
        ending.append(("tracing", tracing))
    if options.payload_log:
        from slipway.serving.observe.payload_files import PayloadOptions
        from slipway.serving.observe.payload_log import PayloadLog
        from slipway.storage.objects import ObjectStorage

        payload_options = PayloadOptions(
            uri=options.payload_log,
            rate=options.payload_share,
            drop_inputs=options.payload_redact,
            hash_inputs=options.payload_hash,
            hash_key=options.payload_hash_key,
            keep_images=options.payload_images,
            flush_seconds=options.payload_flush_seconds,
            max_total_bytes=options.payload_max_bytes,
        )
        payload_log = PayloadLog(payload_options, ObjectStorage(settings), slot.current)
        payload_log.start()
        observers.append(payload_log)
        ending.insert(0, ("payload log", payload_log))
        if metrics is not None:
            metrics.watch(payload=payload_log.counts)
    return Observation(observers=tuple(observers), metrics=metrics, refusals=refusals, tracing=tracing, ending=tuple(ending))


def _start_tracing(options: ObservationOptions) -> "Tracing | None":
    if not options.tracing_endpoint:
        return None
    from slipway.serving.observe.tracing import Tracing, TracingOptions

    return Tracing(TracingOptions(endpoint=options.tracing_endpoint, rate=options.tracing_share))
