"""In which number format the network computes."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from slipway.config import TrainConfig

BF16_MIN_MACS = 2_000_000
"""Multiply-accumulates of one sample below which casting costs a CPU more than bfloat16 saves."""


def choose_precision(config: TrainConfig, device: torch.device, macs: int) -> tuple[torch.dtype, str]:
    """The format for matrix products and convolutions, and the reason for it. Weights and losses are float32 always."""
    if config.precision != "auto":
        return getattr(torch, config.precision), "as configured"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return (torch.bfloat16, "native on this GPU") if native else (torch.float32, "the GPU has no native bfloat16")
    if not cpu_has_bf16():
        return torch.float32, "the CPU has no native bfloat16"
    if macs < BF16_MIN_MACS:
        return torch.float32, f"the network is too small to gain from bfloat16 ({macs:,} multiply-accumulates a sample)"
    return torch.bfloat16, "native on this CPU"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AVX-512 BF16 or AMX)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in (" avx512_bf16", " amx_bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute in `dtype` inside the block, as far as torch holds it safe; float32 turns it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
