"""Two programs that work by turns, so that both meet the same moods of a noisy machine.

Each program is a process of its own, with its own environment. It connects to the socket that it is told, waits for its turn,
works, says what it did, and waits again. While one works the other is blocked in a read and takes no processor time.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 120.0
TURN_SECONDS = 600.0
END_SECONDS = 300.0
_LOG_LINES = 20


class Turns:
    """The working program's side."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._stream = self._socket.makefile("rw", encoding="utf-8")

    def wait(self) -> None:
        """Return when it is this program's turn; end the process when there will be no more."""
        if not self._stream.readline():
            sys.exit(0)

    def done(self, **facts: float) -> None:
        """End the turn and say what it brought."""
        self._stream.write(json.dumps(facts) + "\n")
        self._stream.flush()


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn as seen from outside."""

    seconds: float
    facts: dict[str, float]

    @property
    def rate(self) -> float:
        """Images a second over the whole turn."""
        return self.facts["images"] / self.seconds


class Contestant:
    """The other side: starts the program and gives it its turns."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start `command`, to which the option `--turns ADDRESS` is added; what it prints goes to a file in `folder`."""
        self.name = name
        # A socket's path has room for about a hundred characters only.
        self._address_dir = tempfile.TemporaryDirectory(prefix="turns-")
        address = str(Path(self._address_dir.name) / "socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen(1)
        self._log_path = folder / f"{name}.log"
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--turns", address],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._socket = self._accept()
        self._stream = self._socket.makefile("rw", encoding="utf-8")

    def take_turn(self) -> Turn:
        """Let the program work once."""
        start = time.perf_counter()
        self._stream.write("go\n")
        self._stream.flush()
        try:
            line = self._stream.readline()
        except TimeoutError:
            raise self._failure(f"had not ended its turn after {TURN_SECONDS:.0f} s") from None
        seconds = time.perf_counter() - start
        if not line:
            raise self._failure("ended in the middle of its turn")
        facts: dict[str, float] = json.loads(line)
        return Turn(seconds=seconds, facts=facts)

    def finish(self) -> None:
        """Wait until the program has ended by itself; RuntimeError where it failed."""
        self._stream.close()
        self._socket.close()
        if self._process.wait(END_SECONDS):
            raise self._failure(f"ended with status {self._process.returncode}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the program, whatever it does."""
        self._stream.close()
        self._socket.close()
        self._listener.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._address_dir.cleanup()

    def _accept(self) -> socket.socket:
        self._listener.settimeout(0.2)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(TURN_SECONDS)
            return connection
        self._process.kill()
        raise self._failure(f"did not come within {START_SECONDS:.0f} s")

    def _failure(self, what: str) -> RuntimeError:
        lines = self._log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return RuntimeError("\n".join([f"{self.name} {what}. The end of {self._log_path}:", *lines]))


def stock_environment() -> dict[str, str]:
    """The environment of a program that nobody has tuned: nothing set for threads or memory."""
    tuned = ("OMP_", "MKL_", "KMP_", "GOMP_", "MALLOC_", "LD_PRELOAD", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(tuned)}  # noqa: TID251 - not the product
