"""What this machine's processor computes natively."""

import platform
from collections.abc import Collection
from functools import cache
from pathlib import Path

from slipway.export.precision import Precision

_NEEDED: dict[Precision, tuple[str, ...]] = {
    "bf16": ("avx512_bf16", "amx_bf16"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8"),
}
"""Any of these. Without the dot products of VNNI, sums of int8 products saturate in 16 bits: slower, and other answers."""


def computes_natively(precision: Precision, flags: Collection[str] | None = None) -> bool:
    """Whether the processor has instructions for it; `flags` stands for another processor's."""
    if precision == "fp32":
        return True
    return any(flag in (read_flags() if flags is None else flags) for flag in _NEEDED[precision])


def needed_flags(precision: Precision) -> str:
    """The instructions of which one is needed, for messages."""
    return " or ".join(_NEEDED.get(precision, ("none",)))


@cache
def read_flags() -> frozenset[str]:
    """The instruction sets that Linux lists for an x86 processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not path.is_file():
        return frozenset()
    with path.open() as lines:
        flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
