"""Batching while busy: what came during the last inference goes together in the next one.

A few threads share the work: each takes what is to be done next, an inference (one at a time) or the decoding of a body. The
thread that decodes a request runs its inference too where the model is free, so that a lone request changes threads twice
in all. There is no timer: a lone request never waits for company.
"""

import asyncio
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from slipway.engines.engine import Arrays
from slipway.errors import DeadlineError, OverloadedError, RequestError
from slipway.serving.inference.collecting import without_collecting
from slipway.serving.inference.joint import Outputs, infer_together
from slipway.serving.inference.waiting import Batch, Line, Waiting

_SPEED_SMOOTHING = 0.2
"""Weight of the latest inference in the running estimate of the time that a sample takes."""
_MAX_RETRY_AFTER_SECONDS = 60
_JOIN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How much goes together, and how much may wait."""

    max_batch_size: int = 16
    """Samples in one inference."""
    max_queue_samples: int = 1024
    """Samples that may wait; a request that would make it more is refused, unless nothing waits."""
    max_queue_bytes: int = 256 * 1024 * 1024
    """Of bodies and arrays that may wait."""
    num_workers: int = 2
    """Threads for decoding and inference, 2 or more."""


@dataclass(slots=True, eq=False)
class _Call:
    """A plain function to be run off the event loop."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class Batcher:
    """The threads, and what waits for them."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._line = Line(options.max_batch_size)
        self._calls: OrderedDict[_Call, None] = OrderedDict()
        self._to_decode: OrderedDict[Waiting, None] = OrderedDict()
        self._num_undecoded = 0
        self._undecoded_bytes = 0
        self._num_inferring = 0
        self._inferring_bytes = 0
        self._num_idle = 0
        self._seconds_per_sample = 0.0
        self._closed = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True) for number in range(options.num_workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Samples that wait for the model; a body that is not decoded counts as one."""
        return self._line.num_samples + self._num_undecoded

    async def predict(self, request: Waiting) -> Outputs:
        """The outputs for a request that has its inputs, or what makes them.

        Raises:
            OverloadedError: too much waits already.
            DeadlineError: the request's deadline passed before the answer was there.
            RequestError: the model does not take the inputs, or they could not be made.
            PredictionError: the model failed.
        """
        deadline = request.exchange.deadline
        if deadline is not None and deadline <= perf_counter():
            raise _deadline_error()
        future: asyncio.Future[Outputs] = request.loop.create_future()
        request.future = future
        with self._lock:
            if self._closed:
                raise OverloadedError("The server is about to end, and takes no more requests.", retry_after_seconds=1)
            self._admit(request)
            self._wake_a_worker()
        self._start_timer(request)
        try:
            return await future
        finally:
            if request.timer is not None:
                request.timer.cancel()
            if future.cancelled():
                self._drop(request)
            request.future = None  # or an error and what it belongs to would keep each other in memory
            del future

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function off the event loop."""
        loop = asyncio.get_running_loop()
        call = _Call(function, loop, loop.create_future())
        with self._lock:
            self._calls[call] = None
            self._wake_a_worker()
        try:
            return await call.future
        finally:
            if call.future.cancelled():
                with self._lock:
                    self._calls.pop(call, None)

    def close(self) -> None:
        """Take no more, answer what waits, then end the threads."""
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._wake.put(None)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _admit(self, request: Waiting) -> None:
        if request.decode is None:
            self._stand_in_line(request)
            return
        request.admitted_samples, request.admitted_bytes = request.num_samples, request.body_bytes + request.num_bytes
        self._check_room(request, request.admitted_samples, request.admitted_bytes)
        request.is_let_in = request.inputs is not None  # how much it is was known; else it is asked again
        self._to_decode[request] = None
        self._count_undecoded(request, 1)

    def _stand_in_line(self, request: Waiting) -> None:
        self._check_room(request, request.num_samples, request.num_bytes)
        request.ready_at = request.exchange.decoded_at = perf_counter()
        self._line.add(request)

    def _check_room(self, request: Waiting, num_samples: int, num_bytes: int) -> None:
        if request.is_let_in:
            return
        num_waiting = self.num_waiting
        held_bytes = self._line.num_bytes + self._undecoded_bytes + self._inferring_bytes
        are_too_many = num_waiting and num_waiting + num_samples > self._options.max_queue_samples
        are_too_large = held_bytes and held_bytes + num_bytes > self._options.max_queue_bytes
        if not (are_too_many or are_too_large):
            return
        seconds = (num_waiting + self._num_inferring) * self._seconds_per_sample
        retry_after = min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER_SECONDS)
        raise OverloadedError(
            f"{num_waiting} samples wait for the model already, {self._num_inferring} are in it, and no more are taken. "
            f"Ask again in {retry_after} s.",
            retry_after_seconds=retry_after,
        )

    def _start_timer(self, request: Waiting) -> None:
        """On the request's event loop; anew where its body has changed the deadline."""
        if request.timer is not None:
            request.timer.cancel()
        deadline = request.exchange.deadline
        if request.future is not None and deadline is not None:
            request.timer = request.loop.call_later(deadline - perf_counter(), self._expire, request)

    def _expire(self, request: Waiting) -> None:
        if request.future is not None and not request.future.done():
            request.future.set_exception(_deadline_error())
            self._drop(request)

    def _drop(self, request: Waiting) -> None:
        with self._lock:
            request.dropped = True
            self._line.drop(request)
            self._to_decode.pop(request, None)
            self._forget_body(request)

    def _forget_body(self, request: Waiting) -> None:
        if request.decode is not None:
            request.decode = None
            self._count_undecoded(request, -1)

    def _count_undecoded(self, request: Waiting, sign: int) -> None:
        self._num_undecoded += sign * request.admitted_samples
        self._undecoded_bytes += sign * request.admitted_bytes

    def _wake_a_worker(self) -> None:
        if self._num_idle and (self._may_infer() or self._calls or self._may_decode()):
            self._num_idle -= 1
            self._wake.put(None)

    def _may_infer(self) -> bool:
        return not self._num_inferring and self._line.num_samples > 0

    def _may_decode(self) -> bool:
        """Arrays are larger than bodies: only what the next inferences can take is made ahead."""
        return (
            bool(self._to_decode)
            and self._line.num_samples < 2 * self._options.max_batch_size
            and self._line.num_bytes + self._inferring_bytes < self._options.max_queue_bytes
        )

    def _work(self) -> None:
        while True:
            with self._lock:
                work = self._choose()
                if work is not None:
                    self._wake_a_worker()
                elif self._closed:
                    return
                else:
                    self._num_idle += 1
            if work is None:
                self._wake.get()
            elif isinstance(work, Batch):
                self._infer(work)
            elif isinstance(work, Waiting):
                with without_collecting():
                    self._decode(work)
            else:
                _run_call(work)

    def _choose(self) -> Batch | Waiting | _Call | None:
        if self._may_infer():
            batch = self._line.take()
            if batch is not None:
                self._num_inferring = batch.num_samples
                self._inferring_bytes = sum(request.num_bytes for request in batch.requests)
                return batch
        if self._calls:  # answers that are nearly done
            return self._calls.popitem(last=False)[0]
        return self._to_decode.popitem(last=False)[0] if self._may_decode() else None

    def _decode(self, request: Waiting) -> None:
        decode = request.decode
        if decode is None:
            return
        begun, deadline = perf_counter(), request.exchange.deadline
        try:
            request.decoded = decode()
            request.exchange.decoded_at = perf_counter()
            request.exchange.decode_seconds += request.exchange.decoded_at - begun
            if request.exchange.deadline != deadline:
                self._take_in_deadline(request)
            sent = request.decoded.inputs
            self._make_room(request, sent)
            request.set_inputs(request.model.engine.prepare(sent), sent=sent)
            with self._lock:
                self._forget_body(request)
                if not request.dropped:
                    self._stand_in_line(request)
        except Exception as error:  # noqa: BLE001 whatever it is, it is the answer to this request
            with self._lock:
                self._forget_body(request)
            _answer([(request, _without_frames(error))])

    def _make_room(self, request: Waiting, sent: Arrays) -> None:
        """For the inputs at the size that the network takes, before they are made: tiny images grow ten thousand times."""
        request.set_inputs(sent)
        made_bytes = request.model.engine.prepared_bytes(sent)
        if not made_bytes:
            return
        most = self._options.max_queue_bytes
        needed = request.num_bytes + made_bytes
        if needed > most:
            raise RequestError(
                f"{request.num_samples} samples need {needed} bytes, as they came and at the size that the network takes; "
                f"accepted: at most {most} bytes, {most * request.num_samples // needed} samples of this kind in one request."
            )
        with self._lock:
            if request.decode is None:  # nobody waits for it any more
                return
            self._count_undecoded(request, -1)
            request.admitted_samples, request.admitted_bytes = 0, 0
            try:
                self._check_room(request, request.num_samples, needed)
                request.is_let_in = True
                request.admitted_samples, request.admitted_bytes = request.num_samples, needed
            finally:
                self._count_undecoded(request, 1)

    def _take_in_deadline(self, request: Waiting) -> None:
        """That the request's body states."""
        if request.exchange.deadline is not None and request.exchange.deadline <= perf_counter():
            raise _deadline_error()
        request.loop.call_soon_threadsafe(self._start_timer, request)

    def _infer(self, batch: Batch) -> None:
        begun = perf_counter()
        answers: list[tuple[Waiting, Any]] = []
        unfinished: list[Waiting] = []
        try:
            outcomes = infer_together(batch.requests[0].model.engine, batch.take_inputs())
            seconds = perf_counter() - begun
            for request, outcome in zip(batch.requests, outcomes, strict=True):
                request.note(begun, seconds, batch.num_samples)
                answer = request.finish(outcome, batch.num_samples)
                if answer is None:
                    unfinished.append(request)
                else:
                    answers.append((request, answer))
        except Exception as error:  # noqa: BLE001 such as no memory for the batch; the thread lives on
            seconds = perf_counter() - begun
            unfinished = []
            answers = [(request, _without_frames(error)) for request in batch.requests]
        with self._lock:
            self._num_inferring = self._inferring_bytes = 0
            weight = _SPEED_SMOOTHING if self._seconds_per_sample else 1.0
            self._seconds_per_sample += weight * (seconds / batch.num_samples - self._seconds_per_sample)
            for request in unfinished:
                if not request.dropped:
                    self._line.add(request)
        _answer(answers)


def _deadline_error() -> DeadlineError:
    return DeadlineError("The deadline of the request passed before the model had answered it.")


def _run_call(call: _Call) -> None:
    outcome: Any
    try:
        outcome = call.function()
    except Exception as error:  # noqa: BLE001 whatever it is, it is the caller's
        outcome = _without_frames(error)
    _answer([(call, outcome)])


def _without_frames(error: Exception) -> Exception:
    """An error for another thread: what it was raised from, and the bodies and arrays there, can leave memory."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _answer(answers: Sequence[tuple[Waiting | _Call, Any]]) -> None:
    """Hand results over to the event loops that wait for them; one wake-up a loop."""
    for loop in {request.loop for request, _ in answers}:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_resolve, [(one.future, result) for one, result in answers if one.loop is loop])


def _resolve(results: Sequence[tuple["asyncio.Future[Any] | None", Any]]) -> None:
    for future, result in results:
        if future is None or future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
