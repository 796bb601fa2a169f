"""What validation has to say: findings, and the report that holds them."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from slipway.errors import DataRejectedError

Severity = Literal["block", "warn", "info"]
MAX_SHOWN = 5
"""Places that a finding names, and findings that an error names."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that validation noticed."""

    rule: str
    severity: Severity
    """`block`: the data is not used. `warn`: it is, and someone should look. `info`: a fact."""
    message: str
    where: tuple[str, ...] = ()
    """The first files, items or columns that it is about."""
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """All that validation has to say of a source."""

    source: str
    kind: str
    """`images` or `table`."""
    num_samples: int
    class_counts: dict[str, int]
    """Readable samples of each class."""
    facts: dict[str, str]
    """What the data is, in words, for the head of the report."""
    findings: tuple[Finding, ...]
    """Blocking ones first."""

    @property
    def accepted(self) -> bool:
        """Whether nothing blocks."""
        return not self.blocking

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that block."""
        return tuple(finding for finding in self.findings if finding.severity == "block")

    def require_accepted(self, report_path: Path) -> None:
        """Raise DataRejectedError, with the first findings and where the report lies, unless the data is accepted."""
        blocking = self.blocking
        if not blocking:
            return
        lines = [f"- {finding.message}{_places(finding)}" for finding in blocking[:MAX_SHOWN]]
        if len(blocking) > MAX_SHOWN:
            lines.append(f"- and {len(blocking) - MAX_SHOWN} more")
        raise DataRejectedError("\n".join([f"{self.source} was refused by validation:", *lines, f"Report: {report_path}"]))

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "accepted": self.accepted}


def _places(finding: Finding) -> str:
    return f" ({'; '.join(finding.where[:2])})" if finding.where else ""
