"""Servers that are published as Go modules: each is built once a machine, static, and kept in the user's cache folder."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway.settings import child_environment

MODULES = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
}
"""Program to package and version. MinIO's is its last commit: no release after 2025-09 was published built."""


class GoMissingError(RuntimeError):
    """This machine has neither the program nor Go to build it with."""


_CACHE = Path.home() / ".cache" / "slipway" / "programs"
_BUILD_SECONDS = 1500
_MIN_GO = (1, 21)


def find_program(name: str) -> Path:
    """The program's file, built first where this machine has not built that version yet (MinIO: three minutes on two cores).

    Raises:
        GoMissingError: there is no Go here.
        RuntimeError: the build failed.
    """
    package, _, version = MODULES[name].rpartition("@")
    program = _CACHE / f"{name}-{version}" / name
    if program.exists():
        return program
    if not _has_go():
        raise GoMissingError(
            f"{name} is built from {package}, and there is no Go 1.21 or later here: see https://go.dev/doc/install"
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(MODULES[name], program)
    return program


def _has_go() -> bool:
    """Whether there is a Go that fetches the release a module asks for, if its own is older."""
    if shutil.which("go") is None:
        return False
    told = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", told)
    return found is not None and (int(found[1]), int(found[2])) >= _MIN_GO


def _build(module: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="build-") as folder:
        environment = child_environment(GOBIN=folder, CGO_ENABLED="0", GOFLAGS="-buildvcs=false")
        command = ["go", "install", "-trimpath", "-ldflags", "-s -w", module]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stderr[-4000:]}")
        os.replace(Path(folder) / program.name, program)


def main() -> int:
    """`python -m tests.servers.programs`: build what is not there yet, before tests that have a time limit ask for it."""
    for name in MODULES:
        try:
            find_program(name)
        except GoMissingError as error:
            print(f"The tests that need it are skipped: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
