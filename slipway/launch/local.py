"""Training on this machine: torchrun in processes of its own, followed to the end. Imports no torch."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slipway.errors import TrainingFailedError
from slipway.log import get_logger
from slipway.settings import child_environment
from slipway.training.job import FAILURE_NAME, RESULT_NAME, TrainingJob, TrainingResult

_STOP_SECONDS = 15.0
_STANDARD_ERROR = 2

log = get_logger(__name__)


def launch_training(job: TrainingJob) -> TrainingResult:
    """Train and export with torchrun, from the last checkpoint in `job.work_dir` where there is one.

    What the processes log goes to this process's standard error. SIGTERM and SIGINT end the processes first, then this one.

    Raises:
        TrainingFailedError: with the message of the process that failed.
    """
    job.work_dir.mkdir(parents=True, exist_ok=True)
    for stale in (job.work_dir / RESULT_NAME, job.work_dir / FAILURE_NAME, *job.work_dir.glob("crash-*.json")):
        stale.unlink(missing_ok=True)
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
    worker = [
        *("-m", "slipway.training", "--job", str(job.write())),
        *("--failure-file", str(job.work_dir / FAILURE_NAME)),
        *("--launcher-pid", str(os.getpid())),
    ]
    return torchrun + worker


def training_environment(num_processes: int) -> dict[str, str]:
    """What torchrun and its processes are started with: each gets its share of the cores."""
    cores = len(os.sched_getaffinity(0))
    return child_environment(
        OMP_NUM_THREADS=str(max(1, cores // num_processes)),
        # glibc returns every large tensor to the system and faults it in again; kept, CPU training is 20 to 50 % faster.
        MALLOC_MMAP_THRESHOLD_=str(8 << 30),
        MALLOC_TRIM_THRESHOLD_=str(16 << 30),
        # Without it cuBLAS has no deterministic mode.
        CUBLAS_WORKSPACE_CONFIG=":4096:8",
    )


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
        _end_group(process)
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if received:
        raise SystemExit(128 + received[0])


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of torchrun; its processes end with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _raise_failure(job: TrainingJob, status: int) -> None:
    failure = job.work_dir / FAILURE_NAME
    if failure.exists():
        raise TrainingFailedError(json.loads(failure.read_text())["message"])
    if status == 0 and (job.work_dir / RESULT_NAME).exists():
        return
    remedy = f"The log above has the details; started again, training goes on from the last checkpoint in {job.work_dir}."
    crashes = sorted(job.work_dir.glob("crash-*.json"), key=lambda path: path.stat().st_mtime)
    if crashes:
        crash = json.loads(crashes[-1].read_text())
        raise TrainingFailedError(f"training process {crash['rank']} failed: {crash['kind']}: {crash['message']} {remedy}")
    raise TrainingFailedError(
        f"a training process was killed (torchrun ended with status {status}), for want of memory perhaps: "
        f"a smaller train.batch_size needs less. {remedy}"
    )
