"""The rounds of torchrun that a training over several nodes takes, and whether one may be followed by another. Imports no torch.

torchrun ends a round where the nodes lose each other, and where processes failed too often: it cannot tell one that failed from
one whose node was taken away, and counts both. So a round that brought a new checkpoint is followed by another one. Node 0 writes
the checkpoints; the others hear of them from it, or see the copy in the object store.
"""

import time
from pathlib import Path

from slipway.errors import StorageError, TrainingFailedError
from slipway.log import get_logger
from slipway.storage.uri import join_uri
from slipway.training.job import LAST_NAME
from slipway.training.work_folder import Round, WorkFolder

_SHORT_SECONDS = 30.0
_MAX_SHORT = 5
_BETWEEN_SECONDS = 1.0
_HEAR_SECONDS = 0.5
_WORD_SECONDS = 120.0
"""How long another node whose processes failed waits to hear that there is a new checkpoint, before it ends the training."""

log = get_logger(__name__)


class Rounds:
    """One node's rounds: any number, but few that end as soon as they begin and come no further."""

    def __init__(self, shared: WorkFolder, meeting: str, *, index: int, work_dir: Path) -> None:
        """`index` is the node's number, `work_dir` where node 0 has its checkpoints."""
        self._shared = shared
        self._meeting = meeting
        self._is_leader = index == 0
        self._checkpoint = work_dir / LAST_NAME
        self._begun = 0.0
        self._position = ""
        self._num_short = 0

    def begin(self) -> None:
        """A round begins."""
        self._begun = time.monotonic()
        self._position = self._read_position()
        self._tell(is_over=False)

    def end(self) -> None:
        """Its torchrun has ended on this node."""
        self._tell(is_over=True)

    def has_come_further(self, *, seconds: float = _WORD_SECONDS) -> bool:
        """Whether a round of which the processes failed brought a new checkpoint.

        Node 0 knows, and tells the others when its own round is over, or within `seconds`: all of them decide alike. What they
        read then is of this round, since they met in it, and node 0 tells of its beginning first.
        """
        deadline = time.monotonic() + seconds
        while True:
            is_known = self._is_leader or self._shared.read_round(self._meeting).is_over
            is_last = is_known or time.monotonic() >= deadline
            if self._has_moved():
                return True
            if is_last:
                return False
            time.sleep(_HEAR_SECONDS)

    def count(self) -> None:
        """A round has ended without a result, and the next one begins after a breath.

        Raises:
            TrainingFailedError: too many in a row ended at once and came no further.
        """
        short = time.monotonic() - self._begun < _SHORT_SECONDS and not self._has_moved()
        self._num_short = self._num_short + 1 if short else 0
        if self._num_short >= _MAX_SHORT:
            raise TrainingFailedError(
                f"the nodes did not come together {_MAX_SHORT} times in a row. The log above has torchrun's own reasons; "
                "a network policy that keeps the workers from each other is a likely one."
            )
        time.sleep(_BETWEEN_SECONDS)

    def _has_moved(self) -> bool:
        """Whether there is a new checkpoint since the round began."""
        return self._read_position() != self._position

    def _read_position(self) -> str:
        """Differs once the last checkpoint is another one, which node 0 writes.

        The others hear of it from node 0 at the end of its round, or see the copy, where that is there sooner or node 0 was lost.
        """
        if self._is_leader:
            return str(self._checkpoint.stat().st_mtime_ns) if self._checkpoint.exists() else ""
        copied = self._shared.storage.find_file(join_uri(self._shared.checkpoints_uri, LAST_NAME))
        return f"{self._shared.read_round(self._meeting).position} {copied.version if copied is not None else ''}"

    def _tell(self, *, is_over: bool) -> None:
        """Let the others know where node 0 is; they see the copied checkpoint too, so a store that is away is no failure here."""
        if not self._is_leader:
            return
        try:
            self._shared.write_round(self._meeting, Round(position=self._read_position(), is_over=is_over))
        except StorageError as error:
            log.warning("the other nodes are not told of the last checkpoint", error=str(error))
