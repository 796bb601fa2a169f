"""The machine that is measured on: what it is, what it can do at this moment, and who else is using it."""

import os
import platform
import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from benchmarks.processes import processor_seconds

PINS = Path(__file__).parent / "baselines" / "requirements.txt"
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
_PACKAGES = ("numpy", "pillow", "pyarrow", "torch", "torchvision", "onnxruntime", "kfp")
_SIDES = {"bfloat16": 2048, "float32": 1024}
_PEAK_SECONDS = 0.15
_QUIET_SECONDS = 1.0

MAX_FOREIGN = 0.05
"""Share of the machine's processor time that others may take before a measurement counts as disturbed."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The machine at one moment."""

    peaks: dict[str, float]
    """Best rate of a matrix product on one core by format, in TFLOP/s."""
    busy: float
    """Processor seconds that the machine has spent since it started, those that its host took away included."""
    own: float
    """Processor seconds of this process and all that descend from it."""
    clock: float


class Watch:
    """Looks at the machine before and after each pair."""

    def __init__(self, patience_seconds: float) -> None:
        """`patience_seconds` may be spent in all on waiting until others leave the machine alone."""
        self.looks: list[Look] = []
        self._patience_seconds = patience_seconds
        _measure_peaks()  # The first products set threads and memory up.

    def look(self) -> Look:
        """Measure the present."""
        look = Look(peaks=_measure_peaks(), busy=_busy_seconds(), own=_own_seconds(), clock=time.monotonic())
        self.looks.append(look)
        return look

    def await_quiet(self) -> None:
        """Return when others have taken next to no processor time for a second, or when the patience is spent."""
        while self._patience_seconds > 0.0:
            busy, own, clock = _busy_seconds(), _own_seconds(), time.monotonic()
            time.sleep(_QUIET_SECONDS)
            seconds = time.monotonic() - clock
            if (_busy_seconds() - busy) - (_own_seconds() - own) < MAX_FOREIGN * seconds * _num_cores():
                return
            self._patience_seconds -= seconds

    def compare(self, before: Look, after: Look) -> tuple[float, float]:
        """How much the fastest matrix product changed, as a share; the share of the processors that others took."""
        change = max(abs(after.peaks[name] / before.peaks[name] - 1.0) for name in before.peaks)
        foreign = (after.busy - before.busy) - (after.own - before.own)
        return change, max(0.0, foreign / ((after.clock - before.clock) * _num_cores()))


def describe_machine() -> dict[str, Any]:
    """Processor, cores, flags, memory: enough to know such a machine again, and not which one it is."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(model name|cpu family|model|flags)\s*: (.*)$", cpuinfo, re.MULTILINE))
    memory_kib = int(re.findall(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])
    return {
        "cpu": re.sub(r"\((?:R|TM)\)", "", fields["model name"]).strip(),
        "family_and_model": f"{fields['cpu family']}/{fields['model']}",
        "cores": _num_cores(),
        "flags": [flag for flag in _FLAGS if flag in fields["flags"].split()],
        "memory_gib": round(memory_kib / 2**20),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def describe_versions() -> dict[str, str]:
    """Python and what decides speed."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def machine_name(machine: dict[str, Any]) -> str:
    """A file name for results of such a machine."""
    words = f"{machine['cpu']} {machine['family_and_model']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def load_average() -> float:
    """Over the last minute."""
    return os.getloadavg()[0]


def require_pins() -> None:
    """Refuse to measure baselines of other versions than those they are pinned to.

    Raises:
        RuntimeError: a package has another version.
    """
    lines = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    for requirement in map(Requirement, lines):
        installed = version(requirement.name)
        if not requirement.specifier.contains(installed.partition("+")[0]):
            raise RuntimeError(
                f"{requirement.name} {installed} is installed where the baselines are pinned to {requirement}. "
                f"Run `make setup`, or change {PINS.name} and measure everything anew."
            )


def _measure_peaks() -> dict[str, float]:
    """On one thread: a second one that the system starts on the same core would halve the rate for a moment."""
    import torch

    torch.set_num_threads(1)
    peaks = {}
    for name, side in _SIDES.items():
        matrix = torch.ones((side, side), dtype=getattr(torch, name))
        best, end = float("inf"), time.perf_counter() + _PEAK_SECONDS
        while time.perf_counter() < end or best == float("inf"):
            start = time.perf_counter()
            matrix @ matrix
            best = min(best, time.perf_counter() - start)
        peaks[name] = 2 * side**3 / best / 1e12
    return peaks


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / _ticks_per_second()


def _own_seconds() -> float:
    return processor_seconds(os.getpid())


def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
