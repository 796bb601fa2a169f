"""Loading what is served, while the main thread gets the server ready: both take a good part of a cold start."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import ConfigError, SlipwayError
from slipway.serving.process.hashing import Hashing
from slipway.serving.process.options import ServerOptions
from slipway.settings import Settings
from slipway.storage.uri import is_remote, local_path

if TYPE_CHECKING:
    from slipway.serving.inference.loaded import LoadedModel
    from slipway.serving.record import ServingRecord


class Loader:
    """Makes models as the options say; what it copied from an object store lasts until it is closed."""

    def __init__(self, options: ServerOptions, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._copies = ExitStack()
        self.imported = threading.Event()
        """Set once the first model's loading has imported what it needs, or waits for an object store."""

    def load(self) -> "LoadedModel":
        """The model to begin with.

        Raises:
            BundleError: the bundle is missing or altered, or its model cannot be loaded.
            DeployError: the pointer file is missing or damaged.
            StorageError: the object store cannot be reached, or refuses.
        """
        if self._options.pointer is not None:
            from slipway.serving.record import read_pointer

            return self.load_record(read_pointer(self._options.pointer))
        return self._load(self._bring(self._options.bundle), self._options.name, self._options.version)

    def load_record(self, record: "ServingRecord") -> "LoadedModel":
        """The model that a pointer file names."""
        return self._load(Path(record.bundle_uri), record.model_name, record.version)

    def close(self) -> None:
        """Remove the copies."""
        self._copies.close()

    def _bring(self, uri: str) -> Path:
        if not is_remote(uri):
            return local_path(uri)
        self.imported.set()
        from slipway.serving.process.source import download_bundle, temporary_folder

        folder = self._copies.enter_context(temporary_folder())  # known before it is filled: a signal may end the process then
        return download_bundle(uri, self._settings, folder)

    def _load(self, bundle_dir: Path, name: str, version: str) -> "LoadedModel":
        options = self._options
        hashing = Hashing(bundle_dir)
        from slipway.serving.inference.loaded import load_model  # takes a tenth of a second the first time

        model = load_model(
            bundle_dir,
            name=name,
            version=version,
            num_threads=options.num_threads,
            engine=options.engine,
            precision=options.precision,
            device=options.device,
            hashes=hashing.wait,
            on_imported=self.imported.set,
        )
        if options.unknown_categories == "refuse" and not model.info.columns:
            told = f"{bundle_dir} does not say what training saw: it describes no columns"
            raise ConfigError(f"--unknown-categories is 'refuse', but {told}; accepted: accept.")
        return model


class Loading:
    """A first model that a thread is loading."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._model: LoadedModel | None = None
        self._error: Exception | None = None
        # A daemon: a signal ends the process while the model is read.
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def wait_for_imports(self) -> None:
        """Return when other imports no longer hold the loading up: both need the interpreter, its compiling does not."""
        self.loader.imported.wait()

    def wait(self) -> "LoadedModel":
        """The model, once it is there. Raises what `Loader.load` does."""
        self._thread.join()
        if self._model is None:
            raise self._error or SlipwayError("The model was not loaded.")
        return self._model

    def _run(self) -> None:
        try:
            self._model = self.loader.load()
        except Exception as error:  # noqa: BLE001 - it is raised again by who waits
            self._error = error
        finally:
            self.loader.imported.set()
