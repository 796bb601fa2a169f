"""A bundle's files are hashed while the modules that read them are imported: only the imports need the interpreter."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from slipway.storage.files import hash_file

_DESCRIPTION = "bundle.json"
_CHUNK_BYTES = 1 << 24


class Hashing:
    """A thread that hashes what a bundle's description names. It judges nothing: what it cannot read has no hash."""

    def __init__(self, bundle_dir: Path) -> None:
        self._bundle_dir = bundle_dir
        self._hashes: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def wait(self) -> Mapping[str, str]:
        """SHA-256 by name of file."""
        self._thread.join()
        return self._hashes

    def _run(self) -> None:
        try:
            for name in json.loads((self._bundle_dir / _DESCRIPTION).read_text())["files"]:
                self._hashes[name] = hash_file(self._bundle_dir / name, chunk_bytes=_CHUNK_BYTES)
        except (OSError, ValueError, TypeError, KeyError):
            return  # whoever reads the bundle says what is wrong with it
