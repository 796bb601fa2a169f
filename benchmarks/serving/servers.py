"""Servers as real processes on free ports: Slipway's and the baselines'."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from benchmarks.baselines.serving import DESCRIPTION_VARIABLE
from benchmarks.serving.client import ask
from benchmarks.serving.environments import prepare_environment
from benchmarks.serving.network import Network
from benchmarks.serving.payloads import MODEL
from benchmarks.turns import stock_environment

HOST = "127.0.0.1"
START_SECONDS = 90.0
_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.005
_STOP_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a server is started."""

    name: str
    command: Sequence[str]
    port: int
    environment: Mapping[str, str] = field(default_factory=stock_environment)


@dataclass(frozen=True, kw_only=True)
class Server:
    """One that answers."""

    name: str
    port: int
    pid: int
    start_seconds: float
    """From the start of the process to the first answer."""


def slipway(network: Network, _folder: Path, *, precision: str = "fp32") -> Launch:
    """The predictor on all cores."""
    port = _free_port()
    options = ("--bundle", str(network.bundle_dir), "--name", MODEL, "--port", str(port), "--precision", precision)
    return Launch(name=f"slipway-{precision}", command=[sys.executable, "-m", "slipway.serving", *options], port=port)


def fastapi(network: Network, _folder: Path) -> Launch:
    """Under uvicorn with one worker, as `fastapi run` starts it."""
    port = _free_port()
    command = ["-m", "uvicorn", "benchmarks.baselines.serving.fastapi_server:app", "--port", str(port)]
    return _baseline("fastapi", command, port, network)


def kserve(network: Network, _folder: Path) -> Launch:
    """The SDK's ModelServer."""
    port = _free_port()
    return _baseline("kserve", ["-m", "benchmarks.baselines.serving.kserve_server", "--http_port", str(port)], port, network)


def mlserver(network: Network, folder: Path) -> Launch:
    """With its one parallel worker."""
    http, grpc, metrics = (_free_port() for _ in range(3))
    models = folder / "mlserver"
    models.mkdir(exist_ok=True)
    settings = {"host": HOST, "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (models / "settings.json").write_text(json.dumps(settings))
    model = {"name": MODEL, "implementation": "benchmarks.baselines.serving.mlserver_runtime.ResNet18"}
    (models / "model-settings.json").write_text(json.dumps(model))
    return _baseline("mlserver", ["-c", "from mlserver.cli import main; main()", "start", str(models)], http, network)


def bentoml(network: Network, folder: Path) -> Launch:
    """`bentoml serve`."""
    port = _free_port()
    service = "benchmarks.baselines.serving.bentoml_server:ResNet18"
    command = ["-m", "bentoml", "serve", service, "--host", HOST, "--port", str(port)]
    return _baseline("bentoml", command, port, network, BENTOML_HOME=str(folder / "bentoml"), BENTOML_DO_NOT_TRACK="true")


def litserve(network: Network, _folder: Path) -> Launch:
    """One worker process."""
    port = _free_port()
    return _baseline("litserve", ["-m", "benchmarks.baselines.serving.litserve_server", "--port", str(port)], port, network)


Starter = Callable[[Network, Path], Launch]


@contextmanager
def run_server(launch: Launch, folder: Path, request: bytes) -> Iterator[Server]:
    """Start it, wait until it has answered `request`, and end it with the block; its log lies in `folder`."""
    log = folder / f"{launch.name}.log"
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            launch.command,
            env=dict(launch.environment),
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _await_answer(process, launch, request, log)
        yield Server(name=launch.name, port=launch.port, pid=process.pid, start_seconds=time.perf_counter() - start)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Some leave their workers behind: the whole session ends."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await_answer(process: "subprocess.Popen[bytes]", launch: Launch, request: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    failure = "nothing"
    while process.poll() is None and time.monotonic() < deadline:
        try:
            status, body = ask((HOST, launch.port), request)
        except (OSError, HTTPException) as error:
            failure = str(error)
        else:
            if status == HTTPStatus.OK:
                return
            failure = f"{status}: {body[:500]!r}"
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{launch.name} did not answer ({failure}). The end of {log}:\n{log.read_text(errors='replace')[-3000:]}")


def _baseline(name: str, arguments: Sequence[str], port: int, network: Network, **variables: str) -> Launch:
    python = prepare_environment(name)
    environment = {
        **stock_environment(),
        **variables,
        DESCRIPTION_VARIABLE: str(network.description),
        "PYTHONPATH": str(_ROOT),
        "PATH": f"{python.parent}:{os.defpath}",
    }
    return Launch(name=name, command=[str(python), *arguments], port=port, environment=environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
