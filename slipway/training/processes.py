"""The processes that torchrun starts: what they are given, and what they leave behind when they fail. Imports no torch."""

import json
import os
import subprocess
from pathlib import Path

from slipway.cores import count_cores
from slipway.settings import child_environment
from slipway.training.job import FAILURE_NAME, RESULT_NAME, TrainingJob

_TORCHRUN_PREFIX = "PET_"
"""torchrun takes its options from such variables too; Kubeflow Trainer sets some that would contradict ours."""


def training_environment(num_processes: int) -> dict[str, str]:
    """What torchrun and its processes are started with: each gets its share of the cores."""
    environment = child_environment(
        OMP_NUM_THREADS=str(max(1, count_cores() // num_processes)),
        # glibc returns every large tensor to the system and faults it in again; kept, CPU training is 20 to 50 % faster.
        MALLOC_MMAP_THRESHOLD_=str(8 << 30),
        MALLOC_TRIM_THRESHOLD_=str(16 << 30),
        # Without it cuBLAS has no deterministic mode.
        CUBLAS_WORKSPACE_CONFIG=":4096:8",
    )
    return {name: value for name, value in environment.items() if not name.startswith(_TORCHRUN_PREFIX)}


def worker_arguments(job_file: Path, work_dir: Path) -> list[str]:
    """What follows torchrun's own options."""
    return [
        *("-m", "slipway.training", "--job", str(job_file)),
        *("--failure-file", str(work_dir / FAILURE_NAME)),
        *("--launcher-pid", str(os.getpid())),
    ]


def end_torchrun(process: "subprocess.Popen[bytes]", *, stop_seconds: float) -> None:
    """End torchrun if it still runs, by force after `stop_seconds`; its processes end with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clear_traces(work_dir: Path) -> None:
    """Remove what earlier processes said of their end."""
    for stale in (work_dir / RESULT_NAME, work_dir / FAILURE_NAME, *work_dir.glob("crash-*.json")):
        stale.unlink(missing_ok=True)


def read_failure(work_dir: Path) -> str:
    """The message of a failure that starting again cannot mend; "" where there is none."""
    failure = work_dir / FAILURE_NAME
    return str(json.loads(failure.read_text())["message"]) if failure.exists() else ""


def describe_end(job: TrainingJob, status: int, kept: str) -> str:
    """Why the processes ended without a result, torchrun's own exit status being `status`; `kept` is where checkpoints lie."""
    remedy = f"The log above has the details; started again, training goes on from the last checkpoint in {kept}."
    crashes = sorted(job.work_dir.glob("crash-*.json"), key=lambda path: path.stat().st_mtime)
    if crashes:
        crash = json.loads(crashes[-1].read_text())
        return f"training process {crash['rank']} failed: {crash['kind']}: {crash['message']} {remedy}"
    return (
        f"a training process was killed (torchrun ended with status {status}), for want of memory perhaps: "
        f"a smaller train.batch_size needs less. {remedy}"
    )
