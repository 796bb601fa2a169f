"""What a result depends on beside the data: code, packages, machine. Imports neither torch nor any measured package."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parent
_PACKAGES = ("numpy", "pyarrow", "torch", "torchvision", "onnx", "onnxruntime", "scikit-learn", "mlflow", "kfp")
_COMMAND_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the software a model was made with."""

    python: str
    platform: str
    packages: dict[str, str]
    """Version of each package that can change a result; those not installed are left out."""
    source_hash: str
    """See `hash_sources`."""
    git_commit: str
    """"" where the library does not stand in a git checkout of its own."""
    git_dirty: bool
    """The checkout had uncommitted changes to tracked files."""
    cpu: str
    num_cores: int
    """Cores this process may use."""
    gpus: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The form that is written to `environment.json`."""
        return asdict(self)


def describe_environment() -> Environment:
    """Record the present environment. Takes some tens of milliseconds: git, and nvidia-smi where there is one, are asked."""
    commit = _git("rev-parse", "HEAD")
    return Environment(
        python=sys.version.split()[0],
        platform=platform.platform(),
        packages=package_versions(*_PACKAGES),
        source_hash=hash_sources(),
        git_commit=commit,
        git_dirty=bool(commit and _git("status", "--porcelain", "--untracked-files=no")),
        cpu=_cpu_name(),
        num_cores=len(os.sched_getaffinity(0)),
        gpus=_gpu_names(),
    )


@lru_cache(maxsize=1)
def hash_sources() -> str:
    """SHA-256 (first 16 hex digits) over the paths and contents of the library's Python files."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE_DIR.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE_DIR).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def code_version() -> str:
    """`hash_sources`, followed by `-g` and the git commit where the library stands in a checkout of its own."""
    commit = _git("rev-parse", "HEAD")
    return f"{hash_sources()}-g{commit[:12]}" if commit else hash_sources()


def package_versions(*names: str) -> dict[str, str]:
    """Installed version of each of the named distributions; those not installed are left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str:
    checkout = _PACKAGE_DIR.parent
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return ""
    return _run([git, "-C", str(checkout), *arguments])


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_names() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    return tuple(_run([command, "--query-gpu=name", "--format=csv,noheader"]).splitlines())


def _run(command: list[str]) -> str:
    """Standard output, or "" where the command fails: the record then lacks an entry, and training goes on."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        return ""
    return done.stdout.strip()
