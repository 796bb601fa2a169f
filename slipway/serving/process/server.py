"""The predictor as a process: load, listen, say so, follow the pointer, drain on SIGTERM."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from slipway.log import get_logger
from slipway.serving.http.cors import Cors
from slipway.serving.http.messages import App
from slipway.serving.inference.model import ModelSlot
from slipway.serving.observe.observers import start_observation
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.access import Access
from slipway.serving.process.assembly import make_app, make_batch_options, make_grpc
from slipway.serving.process.complaints import tell_uvicorns_complaints
from slipway.serving.process.connection import BoundedConnection
from slipway.serving.process.ending import Ending, end_cleanly_on_signals, end_when_stdin_closes, leave_now
from slipway.serving.process.follow import PointerFollower
from slipway.serving.process.listening import bind, raise_file_limit
from slipway.serving.process.loading import Loader, Loading
from slipway.serving.process.memory import return_large_blocks
from slipway.serving.process.options import ServerOptions, load_options
from slipway.serving.process.port import Port
from slipway.serving.process.tls import ServerTls
from slipway.serving.process.watch import ConnectionWatch
from slipway.settings import Settings
from slipway.storage.files import write_json

if TYPE_CHECKING:
    from slipway.serving.grpc.server import GrpcServer

_HEADERS = [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
"""In every answer. The server's name and version are in none."""
_OBSERVATION_SECONDS = 2.0
"""For what the observers still have to write, in the end."""
_log = get_logger(__name__)


def run_server(options: ServerOptions, settings: Settings, *, loading: Loading | None = None) -> None:
    """Serve until SIGTERM or SIGINT, drain after SIGTERM, then answer what has begun and return.

    `loading` is the first model where its loading has begun already.

    Raises:
        BundleError: the bundle is missing or altered, or its model does not load.
        ConfigError: the tokens or the TLS files cannot be used.
        DeployError: the pointer file is missing or damaged, or the port is taken.
        StorageError: the bundle's object store cannot be reached.
    """
    end_cleanly_on_signals()
    return_large_blocks()
    raise_file_limit(options.max_connections)
    access = Access(options)
    tls = None if options.tls_certificate is None else ServerTls(options)
    with bind(options.host, options.port) as listener:
        loading = loading or Loading(Loader(options, settings))
        with closing(loading.loader), closing(ModelSlot(loading.wait(), make_batch_options(options))) as slot:
            observation = start_observation(options, slot, settings)
            grpc = partial(make_grpc, options, slot, observation, access) if options.grpc_port >= 0 else None
            app = make_app(options, slot, observation, access)
            server = _Server(_make_config(options, app), slot, options, observation.refusals, listener, tls, grpc)
            background: list[Coroutine[Any, Any, None]] = [server.watch.run()]
            if tls is not None:
                background.append(tls.follow_files())
            if options.pointer is not None:
                count = None if observation.metrics is None else observation.metrics.count_reload
                PointerFollower(slot, options.pointer, loading.loader.load_record, count_reload=count).start()
            if options.until_stdin_closes:
                end_when_stdin_closes(server.ending.begin)
            try:
                with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                    runner.run(_serve(server, listener, background))
            finally:
                observation.close(_OBSERVATION_SECONDS)


def serve_pointer(pointer: Path, settings: Settings, arguments: Sequence[str] = ()) -> NoReturn:
    """Serve what a pointer file names, and follow it, to the end of the process: a thread may be in the middle of a loading.

    `arguments` are further ones of the predictor's command line. Raises what `run_server` does.
    """
    with suppress(SystemExit):  # a signal, before anything could be answered
        run_server(load_options(["--pointer", str(pointer), *arguments], settings), settings)
    leave_now(0)


class _Server(uvicorn.Server):
    """uvicorn's server with bounded connections; it says where it listens once it does."""

    def __init__(
        self,
        config: uvicorn.Config,
        slot: ModelSlot,
        options: ServerOptions,
        refusals: Refusals,
        listener: socket.socket,
        tls: ServerTls | None,
        make_grpc: "Callable[[], GrpcServer] | None",
    ) -> None:
        super().__init__(config)
        self.watch = ConnectionWatch(options, self.server_state, Cors(options.cors_origins, lambda: slot.draining), refusals)
        self._slot = slot
        self._options = options
        self._port: int = listener.getsockname()[1]
        self._tls = tls
        self._make_grpc = make_grpc
        self._open_port: Port | None = None
        self._grpc: GrpcServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ending = Ending(options, drain=self._drain, stop=self._stop, hurry=self._hurry)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        self.ending.handle_signal(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn with the bound socket."""
        self._loop = asyncio.get_running_loop()
        [listener] = sockets or []
        connect = partial(BoundedConnection, self.config, self.server_state, self.watch)
        self._open_port = Port(listener, connect, self._tls, tls_seconds=self._options.head_seconds)
        self.servers = [await self._open_port.open()]
        ports = {"port": self._port}
        if self._make_grpc is not None:
            self._grpc = self._make_grpc()
            ports["grpc_port"] = await self._grpc.start()
        self.started = True
        self._say_ready(ports)
        self._slot.warm_up()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn in the end: what has begun is answered, within the grace."""
        async with asyncio.TaskGroup() as group:
            if self._grpc is not None:
                group.create_task(self._grpc.stop(self._options.grace_seconds))
            if self._open_port is not None:
                await self._open_port.close()
            await super().shutdown(sockets)
        self.watch.cut_all()

    def _drain(self) -> None:
        self._slot.draining = True

    def _stop(self) -> None:
        """Take no more requests, and return from `serve` once those that have begun are answered."""
        self.should_exit = True

    def _hurry(self) -> None:
        self.should_exit = self.force_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.watch.cut_all)

    def _say_ready(self, ports: Mapping[str, int]) -> None:
        if self._options.port_file is not None:
            write_json(self._options.port_file, {"host": self._options.host, **ports})
        model, engine = self._slot.current, self._slot.current.engine.info
        scheme = "http" if self._tls is None else "https"
        host = self._options.host if ":" not in self._options.host else f"[{self._options.host}]"
        url = f"{scheme}://{host}:{self._port}/v2/models/{model.name}"
        _log.info(
            "ready",
            model=model.name,
            version=model.version,
            url=url,
            engine=f"{engine.name} {engine.version}",
            device=engine.device,
            precision=engine.precision,
            threads=engine.num_threads,
            reason=engine.reason,
        )


def _make_config(options: ServerOptions, app: App) -> uvicorn.Config:
    tell_uvicorns_complaints()
    return uvicorn.Config(
        app,
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=_HEADERS,
        timeout_graceful_shutdown=options.grace_seconds,  # type: ignore[arg-type]  # it is only waited for
    )


async def _serve(server: _Server, listener: socket.socket, background: Sequence[Coroutine[Any, Any, None]]) -> None:
    async with AsyncExitStack() as stack:
        for work in background:
            await stack.enter_async_context(_running(work))
        await server.serve(sockets=[listener])


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
