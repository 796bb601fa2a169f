"""Training on this machine: torchrun in processes of its own, followed to the end. Imports no torch."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slipway.errors import TrainingFailedError
from slipway.launch.submitter import Submission
from slipway.log import get_logger
from slipway.settings import Settings
from slipway.storage.objects import ObjectStorage
from slipway.training.job import RESULT_NAME, TrainingJob, TrainingResult
from slipway.training.mirror import CheckpointMirror
from slipway.training.processes import (
    clear_traces,
    describe_end,
    end_torchrun,
    read_failure,
    training_environment,
    worker_arguments,
)
from slipway.training.work_folder import WorkFolder

_STOP_SECONDS = 15.0
_STANDARD_ERROR = 2

log = get_logger(__name__)


class LocalSubmitter:
    """The submitter that needs no cluster: the processes of all nodes run here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def train(self, submission: Submission) -> TrainingResult:
        """See `Submitter.train`. In a pod, whose files go with it, the checkpoints are kept in the object store too."""
        job = submission.job
        if not submission.work_uri:
            return launch_training(job)
        folder = WorkFolder(storage=ObjectStorage(self._settings), uri=submission.work_uri)
        if folder.has_result():
            return folder.fetch_result(job)
        with CheckpointMirror(folder.storage, job.work_dir, folder.checkpoints_uri) as mirror:
            if mirror.restore():
                log.info("checkpoint fetched", uri=folder.checkpoints_uri)
            return launch_training(job)


def launch_training(job: TrainingJob) -> TrainingResult:
    """Train and export with torchrun, from the last checkpoint in `job.work_dir` where there is one.

    What the processes log goes to this process's standard error. SIGTERM and SIGINT end the processes first, then this one.

    Raises:
        TrainingFailedError: with the message of the process that failed.
    """
    job.work_dir.mkdir(parents=True, exist_ok=True)
    clear_traces(job.work_dir)
    log.info("starting torchrun", processes=job.num_workers, work_dir=str(job.work_dir))
    process = subprocess.Popen(
        _command(job),
        env=training_environment(job.num_workers),
        stdin=subprocess.DEVNULL,
        stdout=_STANDARD_ERROR,
        start_new_session=True,
    )
    with _forwarded_signals(process):
        status = process.wait()
    _raise_failure(job, status)
    return TrainingResult.read(job.work_dir)


def _command(job: TrainingJob) -> list[str]:
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(job.num_workers)),
        *("--max-restarts", str(job.train.max_restarts)),
        *("--monitor-interval", "0.2"),
    ]
    return torchrun + worker_arguments(job.write(), job.work_dir)


@contextmanager
def _forwarded_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT end `process` and all that it started; then this process ends as it would have."""
    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        process.terminate()

    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)} if in_main_thread else {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        end_torchrun(process, stop_seconds=_STOP_SECONDS)
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if received:
        raise SystemExit(128 + received[0])


def _raise_failure(job: TrainingJob, status: int) -> None:
    message = read_failure(job.work_dir)
    if message:
        raise TrainingFailedError(message)
    if status == 0 and (job.work_dir / RESULT_NAME).exists():
        return
    raise TrainingFailedError(describe_end(job, status, str(job.work_dir)))
