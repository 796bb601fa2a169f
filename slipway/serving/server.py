"""The predictor as a process: load, listen, say so, follow the pointer, drain on SIGTERM."""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from slipway.errors import DeployError
from slipway.log import get_logger
from slipway.serving.app import create_app
from slipway.serving.follow import PointerFollower
from slipway.serving.model import LoadedModel, ModelSlot, load_model
from slipway.serving.record import read_pointer
from slipway.storage.files import write_json

_GRACE_SECONDS = 30
_READ_BYTES = 1024
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What to serve, and where. Either `bundle_dir`, `model_name` and `version`, or `pointer`."""

    bundle_dir: Path | None = None
    model_name: str = ""
    version: str = ""
    pointer: Path | None = None
    """A `current.json` to take the model from and to follow."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    port_file: Path | None = None
    """Where to write host, port and process id once requests are answered."""
    num_threads: int = 1
    """Threads that one prediction may use."""
    drain_seconds: float = 0.0
    """How long to go on answering after SIGTERM, no longer ready: until everyone has heard that no request is to come here."""
    until_stdin_closes: bool = False
    """End when standard input closes, so that the process does not outlive the one that started it."""


def run_server(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT, drain after SIGTERM, then answer what has begun and return.

    Raises:
        BundleError: the bundle is altered or its model does not load.
        DeployError: the pointer file is missing or damaged, or the port is taken.
    """
    _end_cleanly_on_signals()
    with _bind(options.host, options.port) as listener:
        slot = ModelSlot(_load(options))
        config = uvicorn.Config(
            create_app(slot), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE_SECONDS
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(_Server(config, slot, options, listener), listener, slot, options))


def serve_pointer(pointer: Path, *, host: str, port: int, num_threads: int = 1) -> None:
    """Serve what a pointer file names, and follow it; see `run_server`."""
    run_server(ServerOptions(pointer=pointer, host=host, port=port, num_threads=num_threads))


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, slot: ModelSlot, options: ServerOptions, listener: socket.socket) -> None:
        super().__init__(config)
        self._slot = slot
        self._options = options
        self._port: int = listener.getsockname()[1]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT; a second signal ends the draining."""
        drain_seconds = self._options.drain_seconds
        if sig != signal.SIGTERM or not drain_seconds or self._slot.draining:
            super().handle_exit(sig, frame)
            return
        self._slot.draining = True
        timer = threading.Timer(drain_seconds, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        model = self._slot.current
        url = f"http://{self._options.host}:{self._port}/v2/models/{model.name}"
        _log.info("ready", model=model.name, version=model.version, url=url)
        if self._options.port_file is not None:
            write_json(self._options.port_file, {"host": self._options.host, "port": self._port})


async def _serve(server: _Server, listener: socket.socket, slot: ModelSlot, options: ServerOptions) -> None:
    if options.until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, args=(server,), daemon=True).start()
    async with _following(slot, options):
        await server.serve(sockets=[listener])


@asynccontextmanager
async def _following(slot: ModelSlot, options: ServerOptions) -> AsyncIterator[None]:
    if options.pointer is None:
        yield
        return
    task = asyncio.create_task(PointerFollower(slot, options.pointer, num_threads=options.num_threads).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _load(options: ServerOptions) -> LoadedModel:
    if options.pointer is not None:
        record = read_pointer(options.pointer)
        return load_model(
            Path(record.bundle_uri), name=record.model_name, version=record.version, num_threads=options.num_threads
        )
    if options.bundle_dir is None:
        raise DeployError("Nothing to serve; accepted: a bundle's folder, or a pointer file.")
    return load_model(options.bundle_dir, name=options.model_name, version=options.version, num_threads=options.num_threads)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Head and body of an answer are two writes: without this the second waits 40 ms for the first to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise DeployError(
            f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another port, or 0 for a free one."
        ) from None
    return listener


def _end_cleanly_on_signals() -> None:
    """Signals end the process with status 0. uvicorn takes them over while it serves, and raises them again afterwards."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _stop_when_stdin_closes(server: uvicorn.Server) -> None:
    while os.read(sys.stdin.fileno(), _READ_BYTES):  # unbuffered: a reader that holds sys.stdin's lock aborts the exit
        pass
    server.should_exit = True
