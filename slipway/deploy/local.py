"""The local deploy target: bundles in a folder, a pointer file that says which one serves.

Whoever serves (`slipway serve`, `python -m slipway.serving --pointer FILE`) follows the pointer; nothing is kept running here.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.deploy.target import Candidate, Endpoint
from slipway.errors import DeployError
from slipway.export.bundle import Bundle, copy_bundle, read_bundle, read_info
from slipway.serving.record import (
    POINTER_NAME,
    ServedVersion,
    ServingRecord,
    pointer_path,
    read_pointer,
    read_serving,
    serving_folder,
    succeed,
    write_pointer,
)
from slipway.settings import Settings, predictor_environment
from slipway.storage.locks import hold_lock

_HOST = "127.0.0.1"
_LOCK_NAME = "lock"
_POLL_SECONDS = 0.02
_END_SECONDS = 10.0
_LOG_CHARACTERS = 1500
_BUNDLE_ID_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """Serves from `home/serving/<model>/`. See `slipway.deploy.target` for what is promised."""

    settings: Settings
    predictor_command: tuple[str, ...] = (sys.executable, "-m", "slipway.serving")

    @contextmanager
    def lock(self, model_name: str, *, timeout_seconds: float) -> Iterator[None]:
        """See `DeployTarget.lock`."""
        lock_path = serving_folder(self.settings, model_name) / _LOCK_NAME
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_lock(lock_path, timeout_seconds=timeout_seconds))
            except TimeoutError as error:
                raise DeployError(f"Another deployment of {model_name} goes on: {error} Try again when it has ended.") from None
            yield

    def read_serving(self, model_name: str) -> ServingRecord | None:
        """See `DeployTarget.read_serving`."""
        return read_serving(self.settings, model_name)

    def list_serving(self) -> list[ServingRecord]:
        """See `DeployTarget.list_serving`."""
        return [read_pointer(path) for path in sorted(self.settings.serving_dir.glob(f"*/{POINTER_NAME}"))]

    def store_bundle(self, model_name: str, version: str, bundle_dir: Path) -> str:
        """See `DeployTarget.store_bundle`. The id keeps apart versions of two registries that count alike."""
        bundle_id = read_info(bundle_dir).bundle_id
        folder = serving_folder(self.settings, model_name) / "versions" / f"{version}-{bundle_id[:_BUNDLE_ID_CHARACTERS]}"
        copy_bundle(bundle_dir, folder)
        return str(folder)

    def read_bundle(self, served: ServedVersion, folder: Path) -> Bundle:  # noqa: ARG002 - it lies on this machine
        """See `DeployTarget.read_bundle`."""
        return read_bundle(Path(served.bundle_uri))

    @contextmanager
    def dark_launch(self, candidate: Candidate, *, timeout_seconds: float) -> Iterator[Endpoint]:
        """See `DeployTarget.dark_launch`. The predictor is a process of its own on a free port; it ends with this one."""
        with tempfile.TemporaryDirectory(prefix="slipway-launch-") as folder:
            port_file, log_path = Path(folder) / "port.json", Path(folder) / "log"
            with log_path.open("wb") as log:
                process = subprocess.Popen(
                    [*self.predictor_command, *_predictor_arguments(candidate, port_file)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=predictor_environment(),
                )
            try:
                port = _await_port(process, port_file, log_path, timeout_seconds)
                yield Endpoint(url=f"http://{_HOST}:{port}", model_name=candidate.model_name, version=candidate.served.version)
            finally:
                _end(process)

    def promote(self, candidate: Candidate) -> ServingRecord:
        """See `DeployTarget.promote`."""
        current = self.read_serving(candidate.model_name)
        record = succeed(current, candidate.served, model_name=candidate.model_name)
        write_pointer(pointer_path(self.settings, candidate.model_name), record)
        return record

    @contextmanager
    def serving_endpoint(self, record: ServingRecord, *, timeout_seconds: float) -> Iterator[Endpoint | None]:  # noqa: ARG002
        """See `DeployTarget.serving_endpoint`. Whoever follows the pointer does so by itself."""
        yield None

    def confirm(self, model_name: str) -> ServingRecord:
        """See `DeployTarget.confirm`."""
        path = pointer_path(self.settings, model_name)
        record = replace(read_pointer(path), confirmed=True)
        write_pointer(path, record)
        return record

    def restore(self, model_name: str, record: ServingRecord | None) -> None:
        """See `DeployTarget.restore`."""
        path = pointer_path(self.settings, model_name)
        if record is None:
            path.unlink(missing_ok=True)
        else:
            write_pointer(path, replace(record, confirmed=False))

    def adjust(self, model_name: str) -> None:
        """See `DeployTarget.adjust`. There is one of everything."""

    def remove_unused(self, model_name: str) -> None:
        """See `DeployTarget.remove_unused`."""
        record = read_serving(self.settings, model_name)
        kept = {Path(entry.bundle_uri) for entry in (record, record and record.previous) if entry is not None}
        folder = serving_folder(self.settings, model_name) / "versions"
        for entry in folder.iterdir() if folder.exists() else ():
            if entry not in kept:
                shutil.rmtree(entry, ignore_errors=True)


def _predictor_arguments(candidate: Candidate, port_file: Path) -> list[str]:
    return [
        *("--bundle", candidate.served.bundle_uri),
        *("--name", candidate.model_name),
        *("--version", candidate.served.version),
        *("--host", _HOST),
        *("--port", "0"),
        *("--port-file", str(port_file)),
        "--until-stdin-closes",
    ]


def _await_port(process: "subprocess.Popen[bytes]", port_file: Path, log_path: Path, timeout_seconds: float) -> int:
    deadline = time.monotonic() + timeout_seconds
    while not port_file.exists():
        if process.poll() is not None:
            raise DeployError(f"The predictor ended with status {process.returncode} before it was ready: {_tail(log_path)}")
        if time.monotonic() >= deadline:
            raise DeployError(
                f"The predictor was not ready after {timeout_seconds:g} s (deploy.timeout_seconds): {_tail(log_path)}"
            )
        time.sleep(_POLL_SECONDS)
    port: int = json.loads(port_file.read_text())["port"]
    return port


def _tail(log_path: Path) -> str:
    return log_path.read_text(errors="replace").strip()[-_LOG_CHARACTERS:] or "it wrote nothing."


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
