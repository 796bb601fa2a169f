"""Batching while busy: what came during the last inference goes together in the next one.

A few threads share the work: each takes what is to be done next, an inference (one at a time) or the decoding of a body. The
thread that decodes a request runs its inference too where the model is free, so that a lone request changes threads twice
in all. There is no timer: a lone request never waits for company.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from slipway.engines.engine import Arrays
from slipway.errors import DeadlineError, OverloadedError
from slipway.serving.inference.backlog import Backlog
from slipway.serving.inference.collecting import without_collecting
from slipway.serving.inference.handover import Call, hand_over, without_frames
from slipway.serving.inference.joint import Outputs, infer_together
from slipway.serving.inference.waiting import Batch, Waiting

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


class Batcher:
    """The threads, and what waits for them."""

    def __init__(self, options: BatchOptions) -> None:
        self._lock = threading.Lock()
        self._backlog = Backlog(
            max_batch_size=options.max_batch_size, max_samples=options.max_queue_samples, max_bytes=options.max_queue_bytes
        )
        self._calls: OrderedDict[Call, None] = OrderedDict()
        self._num_idle = 0
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
        return self._backlog.num_waiting

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
            self._backlog.admit(request)
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
        call = Call(function, loop, loop.create_future())
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
            self._backlog.drop(request)

    def _wake_a_worker(self) -> None:
        if self._num_idle and (self._backlog.may_infer or self._calls or self._backlog.may_decode):
            self._num_idle -= 1
            self._wake.put(None)

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
                work.run()

    def _choose(self) -> Batch | Waiting | Call | None:
        batch = self._backlog.take_batch()
        if batch is not None:
            return batch
        if self._calls:  # answers that are nearly done
            return self._calls.popitem(last=False)[0]
        return self._backlog.take_undecoded()

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
            request.set_inputs(request.model.engine.prepare(sent, partial(self._make_room, request, sent)), sent=sent)
            with self._lock:
                self._backlog.put_in_line(request)
        except Exception as error:  # noqa: BLE001 whatever it is, it is the answer to this request
            with self._lock:
                self._backlog.forget_body(request)
            hand_over([(request, without_frames(error))])

    def _make_room(self, request: Waiting, sent: Arrays, made_bytes: int) -> None:
        """For the inputs at the size that the network takes, before they are made: tiny images grow ten thousand times."""
        num_samples = len(next(iter(sent.values())))
        num_bytes = sum(array.nbytes for array in sent.values()) + made_bytes
        with self._lock:
            self._backlog.make_room(request, num_samples, num_bytes)

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
            request_ids = [request.exchange.request_id for request in batch.requests]
            outcomes = infer_together(batch.requests[0].model.engine, batch.take_inputs(), request_ids)
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
            answers = [(request, without_frames(error)) for request in batch.requests]
        with self._lock:
            self._backlog.end_batch(batch, seconds, unfinished)
        hand_over(answers)


def _deadline_error() -> DeadlineError:
    return DeadlineError("The deadline of the request passed before the model had answered it.")
