"""The model in service: loaded, checked, warmed up, and swapped for another while requests are answered."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slipway.errors import BundleError
from slipway.export.bundle import BundleInfo, read_bundle
from slipway.serving.engines import Engine, OnnxRuntimeEngine


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """One version of a model, ready to answer."""

    name: str
    version: str
    info: BundleInfo
    engine: Engine


def load_model(bundle_dir: Path, *, name: str, version: str, num_threads: int = 1) -> LoadedModel:
    """Check a bundle's hashes, load its model and let it answer once.

    Raises:
        BundleError: a file is missing or altered, or the model cannot be loaded or does not answer.
    """
    bundle = read_bundle(bundle_dir)
    engine = OnnxRuntimeEngine(bundle.model_path, bundle.info.signature, num_threads=num_threads)
    for example in bundle.golden[:1]:
        try:
            engine.predict(example.inputs)
        except ValueError as error:
            raise BundleError(f"{bundle.model_path} does not answer its own golden example: {error}") from None
    return LoadedModel(name=name, version=version, info=bundle.info, engine=engine)


class ModelSlot:
    """Holds the model that answers, and the one thread that runs it.

    A request keeps the model that it began with: a swap drops none.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.current = model
        self.draining = False
        """No longer ready, and answering still: the process is about to end."""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    def swap(self, model: LoadedModel) -> None:
        """Let later requests be answered by `model`."""
        self.current = model

    async def predict(self, model: LoadedModel, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model off the event loop; one prediction at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, model.engine.predict, inputs)
