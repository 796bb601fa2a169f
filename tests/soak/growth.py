"""What a process holds over time, and whether it grows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.processes import resident_bytes


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a process holds at one moment."""

    memory_mib: float
    """Resident."""
    files: int
    """Open descriptors, connections among them."""
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Holding":
        """The present."""
        process = Path(f"/proc/{pid}")
        return cls(
            memory_mib=resident_bytes(pid) / 2**20,
            files=len(list((process / "fd").iterdir())),
            threads=len(list((process / "task").iterdir())),
        )


@dataclass(frozen=True, kw_only=True)
class Growth:
    """From the first quarter of what was seen to the last one, of the least that was held in each.

    Peaks come and go with large requests and with connections; what is never given back raises the least.
    """

    memory_mib: float
    files: int
    threads: int

    @classmethod
    def over(cls, holdings: Sequence[Holding]) -> "Growth":
        """Of holdings in order of time, four at least."""
        quarter = len(holdings) // 4
        first, last = holdings[:quarter], holdings[-quarter:]
        return cls(
            memory_mib=min(one.memory_mib for one in last) - min(one.memory_mib for one in first),
            files=min(one.files for one in last) - min(one.files for one in first),
            threads=min(one.threads for one in last) - min(one.threads for one in first),
        )

    def beyond(self, most: "Growth") -> list[str]:
        """What has grown by more than `most` allows."""
        return [name for name, limit in asdict(most).items() if getattr(self, name) > limit]
