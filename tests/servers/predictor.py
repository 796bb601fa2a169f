"""The predictor as a real process on a free port."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 30


@dataclass(frozen=True)
class RunningPredictor:
    """A predictor that answers."""

    process: "subprocess.Popen[bytes]"
    url: str


@contextmanager
def run_predictor(folder: Path, *arguments: str) -> Iterator[RunningPredictor]:
    """Start `python -m slipway.serving` with more arguments, and end it with the block; its log lies in `folder`."""
    port_file = folder / "port.json"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway.serving", "--port", "0", "--port-file", str(port_file), *arguments],
            stdin=subprocess.PIPE,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not port_file.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the predictor did not become ready"
            time.sleep(0.02)
        yield RunningPredictor(process, f"http://127.0.0.1:{json.loads(port_file.read_text())['port']}")
    finally:
        process.kill()
        process.communicate()
