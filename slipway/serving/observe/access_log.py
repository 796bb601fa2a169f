"""The access log: one structured line a request, written by a thread of its own. It holds no body, header or token."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from slipway.errors import ConfigError
from slipway.log import get_logger
from slipway.serving.exchange import Exchange
from slipway.serving.observe.sampling import Sampler, check_rate

if TYPE_CHECKING:
    from slipway.serving.inference.model import LoadedModel

_MAX_WAITING = 10_000
_MAX_ID_CHARACTERS = 128
_BAD_REQUEST = 400
_MILLISECONDS = 1e3
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class AccessLogOptions:
    """Which requests are logged."""

    rate: float = 0.01
    """Share of the requests that went well and were not slow."""
    slow_seconds: float = 1.0
    """From which on a request is logged always."""

    def __post_init__(self) -> None:
        check_rate("The access log's rate", self.rate)
        if self.slow_seconds < 0:
            raise ConfigError(f"The access log's slow_seconds is {self.slow_seconds}; accepted: 0 or more.")


class AccessLog:
    """Logs all requests that were refused, failed or slow, and a share of the others, from `start` to `close`."""

    def __init__(self, options: AccessLogOptions) -> None:
        self.num_dropped = 0
        """Lines that came faster than they could be written."""
        self._options = options
        self._sampler = Sampler(options.rate)
        self._queue: Queue[dict[str, Any] | None] = Queue(_MAX_WAITING)
        self._thread = Thread(target=self._work, name="access-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def observe(
        self,
        exchange: Exchange,
        model: "LoadedModel",
        inputs: Mapping[str, NDArray[Any]] | None,  # noqa: ARG002
        outputs: Mapping[str, NDArray[Any]] | None,  # noqa: ARG002
    ) -> None:
        """See `Observer.observe`."""
        seconds = time.perf_counter() - exchange.received_at
        wanted = exchange.status >= _BAD_REQUEST or seconds >= self._options.slow_seconds
        if not wanted and not self._sampler.take():
            return
        try:
            self._queue.put_nowait(
                {
                    "request_id": _clean(exchange.request_id),
                    "protocol": exchange.wire,
                    "model": model.name,
                    "version": model.version,
                    "status": int(exchange.status),
                    "num_samples": exchange.num_samples,
                    "batch_size": exchange.batch_size,
                    "total_ms": _to_ms(seconds),
                    "decode_ms": _to_ms(exchange.decode_seconds),
                    "queue_ms": _to_ms(exchange.queue_seconds),
                    "inference_ms": _to_ms(exchange.inference_seconds),
                }
            )
        except Full:
            self.num_dropped += 1

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits, for at most so long; whether all was written."""
        try:
            self._queue.put(None, timeout=timeout_seconds)
        except Full:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                _log.info("request", **line)
            except OSError:  # of a full disk, or a reader that is gone; it may pass
                self.num_dropped += 1
        if self.num_dropped:
            _log.warning("request_lines_dropped", num_lines=self.num_dropped)


def _to_ms(seconds: float) -> float:
    return round(seconds * _MILLISECONDS, 3)


def _clean(request_id: str) -> str:
    """What a client named its request, without signs that could pass for another line."""
    shown = request_id[:_MAX_ID_CHARACTERS]
    return shown if shown.isprintable() else ascii(shown)[1:-1]
