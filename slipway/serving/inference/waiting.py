"""What waits for the model: in order of arrival, in groups that can go together, bounded.

The line is plain data: no threads, no clock. It is the part of the backlog whose inputs are there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.serving.exchange import Exchange
from slipway.serving.inference.joint import Outputs

if TYPE_CHECKING:
    from slipway.serving.inference.model import LoadedModel


@dataclass(slots=True, eq=False, kw_only=True)
class Waiting:
    """A request between its arrival and its answer."""

    model: "LoadedModel"
    exchange: Exchange
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any] | None" = None
    """What is waited for, while somebody does."""
    timer: asyncio.TimerHandle | None = None
    """Of the exchange's deadline."""
    decode: Callable[[], Any] | None = None
    """What makes the inputs, where they are not there yet: gives something with `inputs`."""
    decoded: Any = None
    inputs: Arrays | None = None
    group: Hashable = None
    """Requests of one group can be inferred together."""
    body_bytes: int = 0
    counted_samples: int = 0
    """That it counts as while it is not decoded."""
    counted_bytes: int = 0
    num_samples: int = 1
    num_bytes: int = 0
    """Of the inputs, and of what they were made from."""
    ready_at: float = 0.0
    """When the inputs were there."""
    num_done: int = 0
    """Samples that have been inferred, where they are too many to go at once."""
    parts: list[Outputs] = field(default_factory=list)
    """Outputs of the samples that have been inferred."""
    is_let_in: bool = False
    """It is part of what was let in already: there is room for it, however much waits."""
    dropped: bool = False
    """Nobody waits for the answer any more."""

    @property
    def num_left(self) -> int:
        """Samples that have not been inferred."""
        return self.num_samples - self.num_done

    def note(self, begun: float, seconds: float, batch_size: int) -> None:
        """Write down how long an inference that this request was part of has taken."""
        if not self.num_done:
            self.exchange.queue_seconds = begun - self.ready_at
        self.exchange.inference_seconds += seconds
        self.exchange.batch_size = max(self.exchange.batch_size, batch_size)

    def finish(self, outcome: Outputs | Exception, max_samples: int) -> Outputs | Exception | None:
        """Take in what an inference gave; the answer, or None while samples are left."""
        if isinstance(outcome, Exception):
            return outcome
        self.num_done += min(self.num_left, max_samples)
        if not self.num_left and not self.parts:
            return outcome
        self.parts.append(outcome)
        if self.num_left:
            return None
        return {name: np.concatenate([part[name] for part in self.parts]) for name in outcome}

    def next_inputs(self, max_samples: int) -> Arrays:
        """The inputs that have not been inferred, at most so many samples of them."""
        inputs = self.inputs or {}
        if not self.num_done and self.num_samples <= max_samples:
            return inputs
        return {name: array[self.num_done : self.num_done + max_samples] for name, array in inputs.items()}

    def set_inputs(self, inputs: Arrays, *, sent: Arrays | None = None) -> None:
        """Take the arrays in, and see which requests they can go with.

        `sent` is what they were made from, where that stays in memory too.

        Raises:
            RequestError: there is no sample in them, or not the same number in each.
        """
        sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        if len(sizes) != 1 or 0 in sizes:
            given = ", ".join(f"{name}: {list(array.shape)}" for name, array in inputs.items()) or "nothing"
            raise RequestError(f"The inputs have the shapes {given}; accepted: 1 or more samples, the same number in each input.")
        self.inputs = inputs
        self.num_samples = sizes.pop()
        held = {id(array): array.nbytes for arrays in (inputs, sent or {}) for array in arrays.values()}
        self.num_bytes = sum(held.values())
        shapes = [(name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()]
        self.group = (id(self.model), *sorted(shapes))


@dataclass(slots=True, frozen=True)
class Batch:
    """Requests of one group that go together, or one piece of a request that is larger than a batch may be."""

    requests: tuple[Waiting, ...]
    num_samples: int

    def take_inputs(self) -> list[Arrays]:
        """What is to be inferred now, for each request."""
        return [request.next_inputs(self.num_samples) for request in self.requests]


class Line:
    """Requests whose inputs are there."""

    def __init__(self, max_batch_size: int) -> None:
        self.num_samples = 0
        self.num_bytes = 0
        self._max_batch_size = max_batch_size
        self._arrivals: OrderedDict[Waiting, None] = OrderedDict()
        self._groups: dict[Hashable, OrderedDict[Waiting, None]] = {}

    def add(self, request: Waiting) -> None:
        """Put a request at the end."""
        self.num_samples += request.num_left
        self.num_bytes += request.num_bytes
        self._arrivals[request] = None
        self._groups.setdefault(request.group, OrderedDict())[request] = None

    def drop(self, request: Waiting) -> None:
        """Let go of a request, if it is in the line."""
        if request in self._arrivals:
            self._remove(request)

    def take(self) -> Batch | None:
        """The oldest request and what can go with it, in order of arrival, as far as a batch may go; None where none waits."""
        if not self._arrivals:
            return None
        oldest = next(iter(self._arrivals))
        sizes = oldest.model.batch_sizes
        most = sizes.fit(self._max_batch_size)
        taken = [oldest]
        num_samples = min(oldest.num_left, most)
        for request in islice(self._groups[oldest.group], 1, None):
            if num_samples + request.num_left > most:
                break
            taken.append(request)
            num_samples += request.num_left
        fitting = sizes.fit(num_samples)
        while num_samples > fitting and len(taken) > 1:
            num_samples -= taken.pop().num_left
        for request in taken:
            self._remove(request)
        return Batch(tuple(taken), num_samples)

    def _remove(self, request: Waiting) -> None:
        self.num_samples -= request.num_left
        self.num_bytes -= request.num_bytes
        del self._arrivals[request]
        group = self._groups[request.group]
        del group[request]
        if not group:
            del self._groups[request.group]
