"""The payload log: what a share of the requests asked and what was answered, as Parquet files that later jobs read.

An answer never waits for it. `observe` puts references on a bounded queue; one thread makes rows of them and writes files, each
whole or not at all. What does not fit, and what cannot be written, is dropped and counted.
"""

import secrets
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from slipway.errors import ConfigError
from slipway.serving.exchange import Exchange
from slipway.serving.observe.payload_files import PayloadCounts, PayloadFiles, PayloadOptions, count_bytes
from slipway.serving.observe.payload_rows import Asked, Redaction
from slipway.serving.observe.sampling import Sampler
from slipway.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from slipway.serving.inference.model import LoadedModel


class PayloadLog:
    """An observer that logs payloads, from `start` to `close`."""

    def __init__(self, options: PayloadOptions, storage: ObjectStorage, model: "LoadedModel") -> None:
        """Log for `model`, and for those that take its place.

        Raises:
            ConfigError: an input that is to be dropped or hashed is none of the model's.
        """
        self.counts = PayloadCounts()
        self._options = options
        self._sampler = Sampler(options.rate)
        self._redaction = Redaction(
            dropped=frozenset(options.drop_inputs),
            hashed=frozenset(options.hash_inputs),
            key=options.hash_key.encode() or secrets.token_bytes(32),
        )
        _check_names(options, model)
        self._writer = PayloadFiles(options, storage, self._redaction, self.counts)
        self._queue: SimpleQueue[Asked | None] = SimpleQueue()
        # Each of the four is written by one thread alone: what waits is the difference.
        self._rows_in = self._bytes_in = self._rows_out = self._bytes_out = 0
        self._thread = Thread(target=self._work, name="payload-log", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def observe(
        self,
        exchange: Exchange,
        model: "LoadedModel",
        inputs: Mapping[str, NDArray[Any]] | None,
        outputs: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """See `Observer.observe`."""
        if inputs is None or outputs is None or not self._sampler.take():
            return
        num_rows = exchange.num_samples
        if self._closed:
            self.counts.dropped["ended"] += num_rows
            return
        if self._rows_in - self._rows_out + num_rows > self._options.max_queue_rows:
            self.counts.dropped["queue_full"] += num_rows
            return
        num_bytes = sum(map(count_bytes, (*inputs.values(), *outputs.values())))
        if self._bytes_in - self._bytes_out + num_bytes > self._options.max_queue_bytes:
            self.counts.dropped["queue_full"] += num_rows
            return
        self._rows_in += num_rows
        self._bytes_in += num_bytes
        latency = time.perf_counter() - exchange.received_at
        self._queue.put(
            Asked(
                model=model,
                request_id=exchange.request_id,
                protocol=exchange.wire,
                received_at=time.time() - latency,
                latency_seconds=latency,
                inputs=inputs,
                outputs={name: array.copy() for name, array in outputs.items()},  # else it keeps its whole batch
                num_rows=num_rows,
                num_bytes=num_bytes,
            )
        )

    def close(self, timeout_seconds: float) -> bool:
        """Write what waits, for at most so long; whether all was written, or dropped and counted."""
        self._closed = True
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            try:
                asked = self._queue.get(timeout=self._writer.seconds_to_flush())
            except Empty:
                self._writer.flush()
                continue
            if asked is None:
                self._writer.flush()
                return
            self._writer.add(asked)
            self._rows_out += asked.num_rows
            self._bytes_out += asked.num_bytes
            del asked  # a thread that waits keeps no arrays alive


def _check_names(options: PayloadOptions, model: "LoadedModel") -> None:
    known = [spec.name for spec in model.info.signature.inputs]
    for name in (*options.drop_inputs, *options.hash_inputs):
        if name not in known:
            raise ConfigError(f"The payload log is to hide the input {name!r}; accepted: {', '.join(known)}.")
