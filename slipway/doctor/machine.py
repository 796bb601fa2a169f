"""This machine: room on disk, the right to write, a GPU."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway.doctor.check import Check, fail, ok, skip, warn
from slipway.settings import Settings

_GIB = 1 << 30
MIN_FREE_BYTES = 1 * _GIB
AMPLE_FREE_BYTES = 5 * _GIB
_TORCH_SECONDS = 8.0
_MAKE_ROOM = "Make room, or set SLIPWAY_HOME to a folder on a larger disk; finished stages can go: rm -r {cache}"
_ASK_TORCH = """
import json, torch
devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
properties = [torch.cuda.get_device_properties(index) for index in devices]
print(json.dumps({
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "devices": [f"{one.name} {one.total_memory / 2**30:.0f} GiB" for one in properties],
}))
"""


def check_disk(settings: Settings, *, min_bytes: int = MIN_FREE_BYTES, ample_bytes: int = AMPLE_FREE_BYTES) -> Check:
    """Free space where runs, cache and models go."""
    free = shutil.disk_usage(_existing(settings.home)).free
    detail = f"{free / _GIB:.1f} GiB free at {settings.home}"
    remedy = _MAKE_ROOM.format(cache=settings.cache_dir)
    if free < min_bytes:
        return fail("disk", f"{detail}; at least {min_bytes / _GIB:.0f} GiB are needed", remedy)
    if free < ample_bytes:
        return warn("disk", f"{detail}; a larger data set may not fit", remedy)
    return ok("disk", detail)


def check_home(settings: Settings) -> Check:
    """Whether state can be written: really, since permission bits say little about read-only and full file systems."""
    folder = _existing(settings.home)
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"slipway")
            stream.flush()
    except OSError as error:
        remedy = f"Set SLIPWAY_HOME to a folder of yours, or: sudo chown -R $(id -u) {folder}"
        return fail("home", f"{folder} cannot be written ({error.strerror})", remedy)
    return ok("home", f"{settings.home} can be written" + ("" if folder == settings.home else " (made by the first run)"))


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def check_gpu() -> Check:
    """What PyTorch can use; asked in a process of its own, and only where a GPU shows, since importing it takes seconds."""
    if not shutil.which("nvidia-smi") and not list(Path("/dev").glob("nvidia[0-9]*")):
        return skip("gpu", "no NVIDIA GPU here: training runs on the CPU")
    return ask_torch([sys.executable, "-c", _ASK_TORCH], timeout_seconds=_TORCH_SECONDS)


def ask_torch(command: list[str], *, timeout_seconds: float) -> Check:
    """The GPUs that `command` prints as JSON, as PyTorch sees them."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        return warn("gpu", f"PyTorch did not answer within {timeout_seconds:g} s", "Look for a process that holds it: nvidia-smi")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return warn("gpu", f"there is an NVIDIA GPU, and PyTorch cannot be asked: {last}", "pip install 'slipway[train]'")
    answer = json.loads(done.stdout.splitlines()[-1])
    if not answer["devices"]:
        remedy = "Compare with the driver's CUDA version: nvidia-smi"
        return warn("gpu", f"PyTorch {answer['torch']} (CUDA {answer['cuda']}) sees none of the GPUs here", remedy)
    return ok("gpu", f"{', '.join(answer['devices'])}; use them with train.num_gpus={len(answer['devices'])}")
