"""What torchrun starts, once a process: `python -m slipway.training --job job.json`.

A failure that starting again cannot mend (a wrong setting, a loss that is NaN) ends the process with status 1. A launcher that
reads failures from a file names it with `--failure-file`; the process then writes its message there and ends with status 0,
because torchrun would start anything else again in vain.
"""

import argparse
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.log import configure_logging, get_logger
from slipway.settings import ProcessGroup, load_process_group, load_settings
from slipway.storage.files import write_json
from slipway.training.job import TrainingJob

_WATCH_SECONDS = 0.5

log = get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Run the job; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m slipway.training", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--job", type=Path, required=True, help="the job file")
    parser.add_argument("--failure-file", type=Path, help="where to write a failure that starting again cannot mend")
    parser.add_argument("--launcher-pid", type=int, default=0, help="end when this process no longer exists")
    options = parser.parse_args(arguments)
    if options.failure_file and options.failure_file.exists():
        return 0
    _end_with_parents(options.launcher_pid)
    configure_logging(load_settings().log_format)
    job, group = TrainingJob.read(options.job), load_process_group()
    try:
        _run(job, group)
    except SlipwayError as error:
        log.error("training failed", rank=group.rank, kind=type(error).__name__, error=str(error))
        if options.failure_file is None:
            return 1
        write_json(options.failure_file, {"kind": type(error).__name__, "message": str(error)})
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it was: torchrun decides whether to start again, the launcher reports it
        traceback.print_exc()
        _record_crash(job.work_dir, group, error)
        return 1
    return 0


def _run(job: TrainingJob, group: ProcessGroup) -> None:
    from slipway.training.run import run_job

    run_job(job, group)


def _record_crash(work_dir: Path, group: ProcessGroup, error: Exception) -> None:
    """Keep the message of the process that failed first; what the others then report follows from it."""
    path = work_dir / f"crash-{group.restart_count}.json"
    if not path.exists():
        write_json(path, {"kind": type(error).__name__, "message": str(error), "rank": group.rank})


def _end_with_parents(launcher_pid: int) -> None:
    """End this process when torchrun or the launcher is gone: a run started anew must not meet one that nobody waits for."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and (not launcher_pid or _exists(launcher_pid)):
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
