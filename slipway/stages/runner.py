"""How every stage runs: logged, recorded, its failure said in one line."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from slipway.log import configure_logging, get_logger
from slipway.settings import Settings, load_settings
from slipway.stages.cache import Facts, StageCache, Workplace
from slipway.stages.record import REPORTS, RunStatus, StageRecord, utc_now, write_stage
from slipway.stages.state import SharedCache, fetch_run, share_file

_WATCH_SECONDS = 1.0

log = get_logger(__name__)


@dataclass
class StageSession:
    """A stage under way."""

    name: str
    settings: Settings
    cached: bool = False
    facts: Facts = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.settings.run_dir

    def produce(
        self,
        key_parts: Mapping[str, object],
        outputs: Mapping[str, Path],
        work: Callable[[Workplace], Facts],
        *,
        is_current: Callable[[Facts], bool] = lambda _: True,
    ) -> Facts:
        """Fill `outputs` from the cache or by `work`, and keep what the stage says of its result; see `StageCache.produce`."""
        shared = SharedCache(settings=self.settings) if self.settings.state_uri else None
        cache = StageCache(cache_dir=self.settings.cache_dir, work_dir=self.settings.work_dir, shared=shared)
        self.facts, self.cached = cache.produce(self.name, key_parts, outputs, work, is_current=is_current)
        return self.facts


@contextmanager
def stage_session(name: str) -> Iterator[StageSession]:
    """Run a stage's body; its record is written when it begins and when it ends, whichever way but SIGKILL."""
    settings = load_settings()
    configure_logging(settings.log_format)
    if settings.runner_pid:
        threading.Thread(target=_end_with_runner, args=(settings.runner_pid,), daemon=True).start()
    session = StageSession(name, settings)
    started_at, start = utc_now(), time.monotonic()
    fetch_run(settings)
    _record(settings, StageRecord(name=name, status="RUNNING", started_at=started_at, seconds=0.0, cached=False))
    status: RunStatus = "CANCELLED"
    error = "cancelled"
    previous = signal.signal(signal.SIGTERM, _leave)
    try:
        yield session
        status, error = "SUCCEEDED", ""
    except Exception as failure:
        status, error = "FAILED", f"{failure}" or type(failure).__name__
        log.error("stage failed", stage=name, kind=type(failure).__name__, error=error)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
        record = StageRecord(
            name=name,
            status=status,
            started_at=started_at,
            seconds=time.monotonic() - start,
            cached=session.cached,
            facts=session.facts,
            error=error,
        )
        _record(settings, record)


def _record(settings: Settings, record: StageRecord) -> None:
    """Write a stage's record, and let other pods see it and the reports that it may speak of."""
    path = write_stage(settings.run_dir, record)
    for report in REPORTS:
        if (settings.run_dir / report).exists():
            share_file(settings, settings.run_dir / report)
    share_file(settings, path)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Let the stage clear up behind itself instead of ending on the spot."""
    sys.exit(128 + number)


def _end_with_runner(pid: int) -> None:
    """End this stage's process group once the process that follows it is gone, so that a killed run leaves nothing behind."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os.killpg(os.getpgid(0), signal.SIGTERM)
            return
        time.sleep(_WATCH_SECONDS)
