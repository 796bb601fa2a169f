"""The predictor as a process of its own, as KServe and `slipway serve` run it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 60
END_SECONDS = 30
MODEL_NAME = "model"
PROBES = ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/v2/models/model/versions/1/ready")
"""Paths that need no token."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A predictor that answers."""

    url: str
    process: "subprocess.Popen[bytes]"
    log_path: Path
    name: str = MODEL_NAME
    """Of the model in its URLs."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Of HTTP."""
        return int(self.url.rpartition(":")[2])

    @property
    def grpc_port(self) -> int:
        """Of gRPC, where it was asked for."""
        port: int = json.loads((self.log_path.parent / "port.json").read_text())["grpc_port"]
        return port

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def memory_bytes(self) -> int:
        """Resident now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES

    @property
    def peak_memory_bytes(self) -> int:
        """Resident at most, so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    @property
    def infer_url(self) -> str:
        """Where the Open Inference Protocol's requests go."""
        return f"{self.url}/v2/models/{self.name}/infer"

    def terminate(self) -> None:
        """Send SIGTERM, and wait for nothing."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float = END_SECONDS) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(timeout_seconds)

    def stop(self) -> int:
        """End it if it still runs, by force where it does not end in time; its exit status."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdin is not None:
                self.process.stdin.close()


def start_predictor(
    bundle_dir: Path | str | None,
    *arguments: str,
    name: str = MODEL_NAME,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "slipway.serving"),
) -> Predictor:
    """Start `python -m slipway.serving` on a free port and wait until it answers.

    `bundle_dir` is served under `name`; None leaves what is served to `arguments`. `folder` takes its log and port file (a new
    temporary one by default), `environment` is all of its environment (this process's by default).

    Raises:
        AssertionError: it ended, or was not ready in time; the message is its log.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="slipway-predictor-"))
    port_file, log_path = folder / "port.json", folder / "log"
    port_file.unlink(missing_ok=True)
    served = () if bundle_dir is None else ("--bundle", str(bundle_dir), "--name", name)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*program, *served, "--port", "0", "--port-file", str(port_file), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=None if environment is None else dict(environment),
        )
    deadline = time.monotonic() + READY_SECONDS
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.communicate()
            raise AssertionError(f"the predictor was not ready (status {process.returncode}):\n{log_path.read_text()}")
        time.sleep(0.005)
    scheme = "https" if "--tls-certificate" in arguments else "http"
    port = json.loads(port_file.read_text())["port"]
    return Predictor(url=f"{scheme}://127.0.0.1:{port}", process=process, log_path=log_path, name=name)
