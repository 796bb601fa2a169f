"""Requests between their arrival and the end of their inference: counted, bounded, and taken in turn.

Plain data, as the line is. `slipway.serving.inference.batching` owns the lock around it.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter

from slipway.errors import DeadlineError, OverloadedError, RequestError
from slipway.serving.inference.waiting import Batch, Line, Waiting

_SPEED_SMOOTHING = 0.2
"""Weight of the latest inference in the running estimate of the time that a sample takes."""
_MAX_RETRY_AFTER_SECONDS = 60


class Backlog:
    """Bodies that are to be decoded, the line, and the batch that is in the model."""

    def __init__(self, *, max_batch_size: int, max_samples: int, max_bytes: int) -> None:
        """At most so many samples go together, so many wait, and so many bytes are held for them."""
        self._max_batch_size = max_batch_size
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._line = Line(max_batch_size)
        self._to_decode: OrderedDict[Waiting, None] = OrderedDict()
        self._num_undecoded = 0
        self._undecoded_bytes = 0
        self._num_inferring = 0
        self._inferring_bytes = 0
        self._seconds_per_sample = 0.0

    @property
    def num_waiting(self) -> int:
        """Samples that wait for the model; a body that is not decoded counts as one."""
        return self._line.num_samples + self._num_undecoded

    @property
    def may_infer(self) -> bool:
        """Whether the model is free, and something is ready for it."""
        return not self._num_inferring and self._line.num_samples > 0

    @property
    def may_decode(self) -> bool:
        """Arrays are larger than bodies: only what the next inferences can take is made ahead."""
        return (
            bool(self._to_decode)
            and self._line.num_samples < 2 * self._max_batch_size
            and self._line.num_bytes + self._inferring_bytes < self._max_bytes
        )

    def admit(self, request: Waiting) -> None:
        """Take in a request that has come: to be decoded, or with its inputs.

        Raises:
            OverloadedError: too much waits already.
        """
        if request.decode is None:
            self._stand_in_line(request)
            return
        num_bytes = request.body_bytes + request.num_bytes
        self._check_room(request, request.num_samples, num_bytes)
        request.is_let_in = request.inputs is not None  # how much it is was known; else it is asked again
        self._to_decode[request] = None
        self._count_undecoded(request, request.num_samples, num_bytes)

    def make_room(self, request: Waiting, num_samples: int, num_bytes: int) -> None:
        """Let a request that is being decoded count as so much from now on.

        Raises:
            RequestError: it is more than may ever wait.
            OverloadedError: too much waits already.
            DeadlineError: nobody waits for the answer any more, so that nobody hears of it.
        """
        most = self._max_bytes
        if num_bytes > most:
            raise RequestError(
                f"{num_samples} samples need {num_bytes} bytes, as they came and at the size that the network takes; "
                f"accepted: at most {most} bytes, {most * num_samples // num_bytes} samples of this kind in one request."
            )
        if request.decode is None:
            raise DeadlineError("Nobody waits for the answer any more.")
        self._count_undecoded(request, 0, 0)
        self._check_room(request, num_samples, num_bytes)
        request.is_let_in = True
        self._count_undecoded(request, num_samples, num_bytes)

    def put_in_line(self, request: Waiting) -> None:
        """Let a decoded request wait for the model, unless nobody waits for it any more.

        Raises:
            OverloadedError: too much waits already.
        """
        self.forget_body(request)
        if not request.dropped:
            self._stand_in_line(request)

    def forget_body(self, request: Waiting) -> None:
        """Let go of what was to be decoded."""
        if request.decode is not None:
            request.decode = None
            self._count_undecoded(request, 0, 0)

    def drop(self, request: Waiting) -> None:
        """Let go of a request that nobody waits for any more, wherever it is."""
        request.dropped = True
        self._line.drop(request)
        self._to_decode.pop(request, None)
        self.forget_body(request)

    def take_batch(self) -> Batch | None:
        """What goes into the model now; None where it is busy, or nothing is ready for it."""
        batch = None if self._num_inferring else self._line.take()
        if batch is not None:
            self._num_inferring = batch.num_samples
            self._inferring_bytes = sum(request.num_bytes for request in batch.requests)
        return batch

    def end_batch(self, batch: Batch, seconds: float, unfinished: Sequence[Waiting]) -> None:
        """The batch is out of the model, after so long; of the unfinished requests samples are left."""
        self._num_inferring = self._inferring_bytes = 0
        weight = _SPEED_SMOOTHING if self._seconds_per_sample else 1.0
        self._seconds_per_sample += weight * (seconds / batch.num_samples - self._seconds_per_sample)
        for request in unfinished:
            if not request.dropped:
                self._line.add(request)

    def take_undecoded(self) -> Waiting | None:
        """The request that is to be decoded now; None where none may be."""
        return self._to_decode.popitem(last=False)[0] if self.may_decode else None

    def _stand_in_line(self, request: Waiting) -> None:
        self._check_room(request, request.num_samples, request.num_bytes)
        request.ready_at = request.exchange.decoded_at = perf_counter()
        self._line.add(request)

    def _count_undecoded(self, request: Waiting, num_samples: int, num_bytes: int) -> None:
        """Count a request that is not decoded as so much, in place of what it counted as until now."""
        self._num_undecoded += num_samples - request.counted_samples
        self._undecoded_bytes += num_bytes - request.counted_bytes
        request.counted_samples, request.counted_bytes = num_samples, num_bytes

    def _check_room(self, request: Waiting, num_samples: int, num_bytes: int) -> None:
        if request.is_let_in:
            return
        num_waiting = self.num_waiting
        held_bytes = self._line.num_bytes + self._undecoded_bytes + self._inferring_bytes
        are_too_many = num_waiting and num_waiting + num_samples > self._max_samples
        are_too_large = held_bytes and held_bytes + num_bytes > self._max_bytes
        if not (are_too_many or are_too_large):
            return
        seconds = (num_waiting + self._num_inferring) * self._seconds_per_sample
        retry_after = min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER_SECONDS)
        raise OverloadedError(
            f"{num_waiting} samples wait for the model already, {self._num_inferring} are in it, and no more are taken. "
            f"Ask again in {retry_after} s.",
            retry_after_seconds=retry_after,
        )
