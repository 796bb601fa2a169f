"""The model in service: loaded, checked, warmed up, and swapped for another while requests are answered."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from numpy.typing import NDArray

from slipway.engines.choice import open_engine
from slipway.engines.engine import Engine, EngineName
from slipway.errors import NotServedError
from slipway.export.bundle import BundleInfo, read_bundle
from slipway.export.golden import GoldenExample
from slipway.export.precision import Precision
from slipway.serving.exchange import Exchange
from slipway.serving.inference.batching import Batcher, BatchOptions
from slipway.serving.inference.golden import check_golden_examples
from slipway.serving.inference.waiting import Waiting
from slipway.serving.inference.warming import BatchSizes


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """One version of a model, ready to answer."""

    name: str
    version: str
    info: BundleInfo
    engine: Engine
    golden: tuple[GoldenExample, ...] = ()
    """What it is known to answer; documentation takes its examples from them."""
    batch_sizes: BatchSizes = field(default_factory=BatchSizes)
    """That go together without a delay."""

    @property
    def has_open_shapes(self) -> bool:
        """Whether an input takes samples of several sizes."""
        return any(None in spec.shape[1:] for spec in self.info.signature.inputs)

    def check_name(self, name: str, version: str | None) -> None:
        """Raise NotServedError unless this is the model of that name, and of that version where one is given."""
        if name != self.name:
            raise NotServedError(f"Model {name[:200]!r} is not served here; accepted: {self.name}.")
        if version is not None and version != self.version:
            raise NotServedError(f"Version {version[:200]!r} of {self.name} is not served here; accepted: {self.version}.")


class HasInputs(Protocol):
    """A parsed request."""

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """What the model is to predict from."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """Inputs that need no parsing."""

    inputs: Mapping[str, NDArray[Any]]


T = TypeVar("T")
Parsed = TypeVar("Parsed", bound=HasInputs)


def load_model(
    bundle_dir: Path,
    *,
    name: str,
    version: str,
    num_threads: int = 1,
    engine: Literal["auto"] | EngineName = "auto",
    precision: Literal["auto"] | Precision = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> LoadedModel:
    """Check a bundle's hashes, load its model and let it answer its golden examples.

    Raises:
        BundleError: a file is missing or altered, the model cannot be loaded, does not answer, or answers wrongly.
    """
    bundle = read_bundle(bundle_dir)
    opened = open_engine(bundle, engine=engine, precision=precision, device=device, num_threads=num_threads)
    check_golden_examples(bundle, opened)
    return LoadedModel(
        name=name,
        version=version,
        info=bundle.info,
        engine=opened,
        golden=bundle.golden,
        batch_sizes=BatchSizes(opened.batch_sizes if bundle.golden else ()),
    )


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

    async def predict(
        self, model: LoadedModel, inputs: Mapping[str, NDArray[Any]], exchange: Exchange
    ) -> dict[str, NDArray[Any]]:
        """The outputs for a request, which is inferred together with others; fills in the exchange's times and counts.

        Raises:
            OverloadedError: too much waits already.
            DeadlineError: the exchange's deadline passed.
            RequestError: the model does not take the inputs.
            PredictionError: the model failed; the log says why.
        """
        request = self._wait_for(model, exchange)
        request.set_inputs(inputs)
        exchange.num_samples = request.num_samples
        if model.has_open_shapes:  # the engine may have to bring them to its own size, which takes long for the event loop
            request.decode = partial(_Ready, inputs)
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
