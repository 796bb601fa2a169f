"""Real S3 servers on free ports of the loopback address: MinIO, and the Versity gateway over a plain folder."""

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from pathlib import Path

from slipway.settings import Settings, child_environment, load_settings
from slipway.storage.sdk import open_client
from tests.servers.certificates import Certificate
from tests.servers.ports import find_free_port
from tests.servers.programs import find_program

ACCESS_KEY = "slipway"
SECRET_KEY = "only-for-tests"
_numbers = count()
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server, with the credentials that may do everything."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]

    def settings(self, **changes: str) -> Settings:
        """Settings that name this server; `changes` are further variables of the environment."""
        return load_settings({**self.environment, **changes})

    def make_bucket(self) -> str:
        """Make a new, empty bucket; its name."""
        name = f"bucket-{next(_numbers)}"
        open_client(self.settings(), timeout_seconds=10).make_bucket(name)
        return name

    @property
    def environment(self) -> dict[str, str]:
        """What Slipway's settings need to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def stop(self) -> None:
        """End it, by force where it does not end by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(_STOP_SECONDS)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)


def start_minio(folder: Path, *, certificate: Certificate | None = None, port: int = 0) -> S3Server:
    """MinIO with its objects in `folder`; `certificate` makes it speak TLS.

    Raises:
        GoMissingError: it was never built here, and there is no Go to build it with.
    """
    port = port or find_free_port()
    command = [str(find_program("minio")), "server", str(folder / "objects"), "--quiet"]
    command += ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{find_free_port()}"]
    if certificate is not None:
        certificate.write(folder / "certs" / "public.crt", folder / "certs" / "private.key")
        command += ["--certs-dir", str(folder / "certs")]
    secrets = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"}
    return _start("minio", command, secrets, folder, port, tls=certificate is not None)


def start_versitygw(folder: Path, *, port: int = 0) -> S3Server:
    """The Versity gateway with its objects as plain files in `folder`; it has no versioning.

    Raises:
        GoMissingError: it was never built here, and there is no Go to build it with.
    """
    port = port or find_free_port()
    for name in ("objects", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [str(find_program("versitygw")), "--quiet", "--port", f"127.0.0.1:{port}", "--keep-alive"]
    command += ["posix", "--sidecar", str(folder / "metadata"), str(folder / "objects")]
    secrets = {"ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    return _start("versitygw", command, secrets, folder, port, tls=False)


def _start(name: str, command: Sequence[str], secrets: Mapping[str, str], folder: Path, port: int, *, tls: bool) -> S3Server:
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, env=child_environment(**secrets), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    scheme = "https" if tls else "http"
    server = S3Server(
        name=name, endpoint=f"{scheme}://127.0.0.1:{port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, process=process
    )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(port, tls=tls):
        if process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise RuntimeError(f"{name} did not start within {_START_SECONDS:g} s:\n{log_path.read_text()[-4000:]}")
        time.sleep(0.05)
    return server


def _answers(port: int, *, tls: bool) -> bool:
    """Whether requests are answered; over TLS, whether connections are taken."""
    try:
        if tls:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"http://127.0.0.1:{port}/", timeout=1).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != HTTPStatus.SERVICE_UNAVAILABLE  # MinIO's answer while it starts
    except OSError:
        return False
    return True
