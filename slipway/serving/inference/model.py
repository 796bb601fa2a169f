"""The model in service, and swapped for another while requests are answered."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from numpy.typing import NDArray

from slipway.serving.exchange import Exchange
from slipway.serving.inference.batching import Batcher, BatchOptions
from slipway.serving.inference.loaded import LoadedModel, load_model
from slipway.serving.inference.waiting import Waiting

__all__ = ["LoadedModel", "ModelSlot", "load_model"]


class HasInputs(Protocol):
    """A parsed request."""

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """What the model is to predict from."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """Inputs that need no parsing."""

    inputs: Mapping[str, NDArray[Any]]


_LARGE_ANSWER = 20_000
"""Values above which an answer is written off the event loop."""
T = TypeVar("T")
Parsed = TypeVar("Parsed", bound=HasInputs)


class ModelSlot:
    """Holds the model that answers, and the threads that run it.

    A request keeps the model that it began with: a swap drops none, and the old model is freed with its last request.
    """

    def __init__(self, model: LoadedModel, options: BatchOptions | None = None) -> None:
        self.current = model
        self.draining = False
        """No longer ready, and answering still: the process is about to end."""
        self.num_in_flight = 0
        """Requests for predictions that are being answered, over all protocols."""
        self._options = options or BatchOptions()
        self._batcher = Batcher(self._options)

    @property
    def num_waiting(self) -> int:
        """Samples that wait for the model."""
        return self._batcher.num_waiting

    def swap(self, model: LoadedModel) -> None:
        """Let later requests be answered by `model`."""
        self.current = model
        self.warm_up()

    def close(self) -> None:
        """Answer what waits, take no more, end the threads."""
        self._batcher.close()

    def warm_up(self) -> None:
        """Begin to get the model ready for larger batches; to be called once it answers, so that the start is not held up."""
        model = self.current
        if not model.golden:
            return
        threading.Thread(
            target=model.batch_sizes.warm_up,
            args=(model.engine, model.golden[0].inputs, self._options.max_batch_size, lambda: self.current is model),
            name="warm-up",
            daemon=True,
        ).start()

    async def decode(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function that takes long for the event loop, such as the decoding of a body, on another thread."""
        return cast("T", await self._batcher.call(partial(function, *args)))

    async def write(self, function: Callable[[], T], outputs: Mapping[str, NDArray[Any]]) -> T:
        """Run what writes an answer of these outputs: on another thread where they are large."""
        num_values = sum(array.size for array in outputs.values())
        return await self.decode(function) if num_values > _LARGE_ANSWER else function()

    async def predict(
        self, model: LoadedModel, inputs: Mapping[str, NDArray[Any]], exchange: Exchange, *, is_let_in: bool = False
    ) -> dict[str, NDArray[Any]]:
        """The outputs for a request, which is inferred together with others; fills in the exchange's times and counts.

        With `is_let_in` it is a further part of a request, which is not refused for what waits.

        Raises:
            OverloadedError: too much waits already.
            DeadlineError: the exchange's deadline passed.
            RequestError: the model does not take the inputs.
            PredictionError: the model failed; the log says why.
        """
        request = self._wait_for(model, exchange)
        request.is_let_in = is_let_in
        if model.has_open_shapes:  # the engine may have to bring them to its own size, which takes long for the event loop
            request.set_inputs(inputs)
            request.decode = partial(_Ready, inputs)
        else:
            request.set_inputs(model.engine.prepare(inputs))
        exchange.num_samples = request.num_samples
        return await self._batcher.predict(request)

    async def decode_and_predict(
        self, model: LoadedModel, exchange: Exchange, body_bytes: int, function: Callable[..., Parsed], *args: Any
    ) -> tuple[Parsed, dict[str, NDArray[Any]]]:
        """What `function` makes of a body of so many bytes, and the outputs for its inputs.

        `decode` and `predict` in one: where nothing else is to be done, one thread does both. Raises what either does.
        """
        request = self._wait_for(model, exchange)
        request.decode = partial(function, *args)
        request.body_bytes = body_bytes
        outputs = await self._batcher.predict(request)
        exchange.num_samples = request.num_samples
        return request.decoded, outputs

    def _wait_for(self, model: LoadedModel, exchange: Exchange) -> Waiting:
        loop = asyncio.get_running_loop()
        return Waiting(model=model, exchange=exchange, loop=loop)
