"""One version of a model, loaded and checked. It imports little: a cold start waits for the engine that is opened here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from slipway.engines.choice import import_library, open_engine
from slipway.engines.engine import Engine, EngineName
from slipway.errors import NotServedError
from slipway.export.bundle import BundleInfo, read_bundle, read_info
from slipway.export.golden import GoldenExample
from slipway.export.precision import Precision
from slipway.serving.inference.golden import check_golden_examples
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

    def check_probe(self, name: str, version: str | None) -> None:
        """As `check_name`, for those who need no token to ask: they are not told what is served."""
        if name != self.name or version not in (None, self.version):
            told = f"Model {name[:200]!r}" if version is None else f"Version {version[:200]!r} of {name[:200]!r}"
            raise NotServedError(
                f"{told} is not served here; accepted: the name and the version that this server was started with."
            )


def load_model(
    bundle_dir: Path,
    *,
    name: str,
    version: str,
    num_threads: int = 1,
    engine: Literal["auto"] | EngineName = "auto",
    precision: Literal["auto"] | Precision = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    hashes: Callable[[], Mapping[str, str]] = dict,
    on_imported: Callable[[], None] = lambda: None,
) -> LoadedModel:
    """Check a bundle's hashes, load its model and let it answer its golden examples.

    `hashes` gives those of the bundle's files that are known by then. `on_imported` is called, where nothing fails before, once
    the engine's library is imported: little of what follows needs the interpreter.

    Raises:
        BundleError: a file is missing or altered, the model cannot be loaded, does not answer, or answers wrongly.
    """
    import_library(read_info(bundle_dir), engine, precision)
    bundle = read_bundle(bundle_dir, hashes=hashes())
    on_imported()
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
