"""One virtual environment a baseline, from its hash-locked requirements.

They lie beside Slipway's other state. uv links files from its cache, so five environments take little more room than one.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from slipway.settings import child_environment, load_settings

REQUIREMENTS = Path(__file__).parents[1] / "baselines" / "serving"
_UV = Path(sys.executable).with_name("uv")
_MARK = "complete"
_INSTALL_SECONDS = 1200


def prepare_environment(name: str) -> Path:
    """The interpreter of the environment of `name`, which is made where it is missing or its requirements have changed."""
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    root = load_settings().home / "bench" / "environments"
    folder = root / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / _MARK).exists():
        for stale in root.glob(f"{name}-*"):
            shutil.rmtree(stale)
        _run("venv", "--python", sys.executable, str(folder))
        _run("pip", "sync", "--require-hashes", "--compile-bytecode", "--python", str(python), str(requirements))
        (folder / _MARK).touch()
    return python


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [str(_UV), "--quiet", *arguments],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
