"""What a node that failed says to whoever started it: its exit status, and its container's termination message."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FAILED_FOR_GOOD = 70
"""Exit status of a node after a failure that another start cannot mend; its termination message says which."""
TERMINATION_FILE = Path("/dev/termination-log")
_MESSAGE_BYTES = 4000  # Kubernetes keeps 4096


@dataclass(frozen=True, kw_only=True)
class NodeFailure:
    """Why a node failed; its container's termination message."""

    kind: str
    message: str
    at: float
    """Seconds since the epoch: of several nodes' failures the earliest is the cause."""

    def write(self, path: Path) -> None:
        """Leave it where Kubernetes looks for it."""
        message = self.message
        while len(content := json.dumps(asdict(self) | {"message": message})) > _MESSAGE_BYTES:  # escapes count
            message = message[: -max(1, (len(content) - _MESSAGE_BYTES) // 6)]
        path.write_text(content)

    @classmethod
    def parse(cls, text: str) -> "NodeFailure | None":
        """Read a termination message; None where it is of another kind, such as a log's last lines."""
        try:
            content = json.loads(text)
            return cls(kind=content["kind"], message=content["message"], at=float(content["at"]))
        except (ValueError, KeyError, TypeError):
            return None
