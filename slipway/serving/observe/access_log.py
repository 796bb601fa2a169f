"""The access log: a structured line a request, written by a thread of its own. It holds no body, header or token."""

import time
from collections.abc import Mapping
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from slipway.log import get_logger
from slipway.serving.exchange import Exchange
from slipway.serving.observe.sampling import Sampler

if TYPE_CHECKING:
    from slipway.serving.inference.model import LoadedModel

_MAX_WAITING = 10_000
_MAX_ID_CHARACTERS = 128
_MAX_REFUSALS = 100
"""Lines a second for those who are turned away: whoever tries tokens fills no disk."""
_BAD_REQUEST = 400
_MILLISECONDS = 1e3
_log = get_logger(__name__)


class AccessLog:
    """Logs what was refused, failed or was slow of the requests for a prediction, and a share of the others; until `close`."""

    def __init__(self, *, rate: float, slow_seconds: float) -> None:
        """`rate` is the share of the others; from `slow_seconds` on a request is slow."""
        self.num_dropped = 0
        """Lines that came faster than they could be written, or were one refusal too many."""
        self._sampler = Sampler(rate)
        self._slow_seconds = slow_seconds
        self._refusals_since = 0.0
        self._num_refusals = 0
        self._queue: Queue[tuple[str, dict[str, Any]] | None] = Queue(_MAX_WAITING)
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
        wanted = exchange.status >= _BAD_REQUEST or seconds >= self._slow_seconds
        if not wanted and not self._sampler.take():
            return
        self._put(
            "request",
            request_id=_clean(exchange.request_id),
            protocol=exchange.wire,
            model=model.name,
            version=model.version,
            status=int(exchange.status),
            num_samples=exchange.num_samples,
            batch_size=exchange.batch_size,
            total_ms=_to_ms(seconds),
            decode_ms=_to_ms(exchange.decode_seconds),
            queue_ms=_to_ms(exchange.queue_seconds),
            inference_ms=_to_ms(exchange.inference_seconds),
        )

    def observe_refusal(self, status: int, *, request_id: str, address: str) -> None:
        """Take in that a client was turned away, whatever it asked for; called as `observe` is."""
        now = time.monotonic()
        if now - self._refusals_since >= 1:
            self._refusals_since, self._num_refusals = now, 0
        self._num_refusals += 1
        if self._num_refusals > _MAX_REFUSALS:
            self.num_dropped += 1
        else:
            self._put("request_refused", request_id=_clean(request_id), status=status, address=address)

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits, for at most so long; whether all was written."""
        deadline = time.monotonic() + timeout_seconds
        try:
            self._queue.put(None, timeout=timeout_seconds)
        except Full:
            return False
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        return not self._thread.is_alive()

    def _put(self, event: str, **facts: Any) -> None:
        try:
            self._queue.put_nowait((event, facts))
        except Full:
            self.num_dropped += 1

    def _work(self) -> None:
        while (line := self._queue.get()) is not None:
            event, facts = line
            try:
                _log.info(event, **facts)
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
