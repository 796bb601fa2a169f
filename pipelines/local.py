"""Run a compiled pipeline on this machine: the very YAML that goes to a cluster, executed by kfp.local.

kfp.local's subprocess runner does the orchestration. Its task handler is replaced by one that sends a task's output to a
log file of the run, follows it to report progress, and ends the task's processes when the run is cancelled. Retries are
left out: what fails on a laptop fails again in 30 seconds, and stages resume by themselves when the run is repeated.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import kfp
import yaml
from kfp import components, local
from kfp.local import status, subprocess_task_handler

from pipelines.ir import read_ir_hash
from slipway.errors import RegistryError
from slipway.settings import Settings, child_environment
from slipway.stages.finish import conclude_run
from slipway.stages.record import (
    RunRecord,
    StageRecord,
    liveness_lock,
    new_run_id,
    read_run,
    read_stage,
    read_stages,
    utc_now,
    write_run,
    write_stage,
)
from slipway.storage.locks import hold_lock

TESTED_KFP = "2.17."
_POLL_SECONDS = 0.05
_LOCK_SECONDS = 10.0
_END_SECONDS = 10.0


class Progress(Protocol):
    """What a person sees while the run goes on."""

    def task_started(self, task: str) -> None:
        """A task's process has started."""

    def task_logged(self, task: str, event: Mapping[str, Any]) -> None:
        """A task has logged a structured event."""

    def task_ended(self, task: str, record: StageRecord | None, succeeded: bool, seconds: float) -> None:
        """A task's process has ended; `record` is what the stage wrote of itself."""


def run_locally(ir: Path, parameters: Mapping[str, Any], settings: Settings, progress: Progress, run_id: str = "") -> RunRecord:
    """Execute the compiled pipeline `ir` with `parameters` and return the run's record.

    A run that is cancelled (SIGINT, SIGTERM) ends its processes, records CANCELLED and raises KeyboardInterrupt.
    """
    run_id = run_id or new_run_id()
    run_dir = settings.runs_dir / run_id
    started = time.monotonic()
    record = RunRecord(
        run_id=run_id,
        pipeline=ir.stem,
        status="RUNNING",
        started_at=utc_now(),
        parameters=dict(parameters),
        ir_hash=read_ir_hash(ir),
    )
    failure: RuntimeError | None = None
    with hold_lock(liveness_lock(run_dir), timeout_seconds=_LOCK_SECONDS):
        write_run(run_dir, record)
        try:
            _execute(ir, parameters, settings, run_dir, progress)
        except RuntimeError as error:
            failure = error
        except KeyboardInterrupt:
            with contextlib.suppress(RegistryError):  # the next run closes what MLflow could not be told now
                conclude_run(replace(settings, run_id=run_id), parameters, "CANCELLED", "cancelled")
            write_run(run_dir, replace(read_run(run_dir), seconds=time.monotonic() - started))
            raise
        return _record_end(run_dir, failure, time.monotonic() - started)


def _record_end(run_dir: Path, failure: RuntimeError | None, seconds: float) -> RunRecord:
    latest = read_run(run_dir)
    errors = [stage.error for stage in read_stages(run_dir) if stage.error]
    reason = (errors or [latest.error or str(failure)])[0] if failure else ""
    final = replace(latest, status="FAILED" if failure else "SUCCEEDED", seconds=seconds, error=reason)
    write_run(run_dir, final)
    return final


def _execute(ir: Path, parameters: Mapping[str, Any], settings: Settings, run_dir: Path, progress: Progress) -> None:
    if not kfp.__version__.startswith(TESTED_KFP):
        raise RuntimeError(f"kfp {kfp.__version__} is installed; local runs are tested with {TESTED_KFP}*: run `make setup`.")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(run_dir / "artifacts"), raise_on_error=True)
    pipeline = components.load_component_from_text(_without_retries(ir.read_text()))
    with _task_handler(_following_handler(settings, run_dir, progress)), _terminations_interrupt(), _quiet_kfp():
        pipeline(**parameters)


def _without_retries(text: str) -> str:
    documents = list(yaml.safe_load_all(text))
    _drop_retries(documents[0])
    return yaml.safe_dump_all(documents, sort_keys=False)


def _drop_retries(node: object) -> None:
    if isinstance(node, dict):
        node.pop("retryPolicy", None)
        for value in node.values():
            _drop_retries(value)
    elif isinstance(node, list):
        for value in node:
            _drop_retries(value)


def _following_handler(settings: Settings, run_dir: Path, progress: Progress) -> type:
    class FollowedTask(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
        """One task as a process group of its own, its output in the run's logs folder."""

        def run(self) -> status.Status:
            task = _task_name(self.full_command)
            command = subprocess_task_handler.replace_python_executable(self.full_command, sys.executable)
            environment = child_environment(
                **{
                    **self.env_vars,
                    "SLIPWAY_HOME": str(settings.home),
                    "SLIPWAY_RUN_ID": run_dir.name,
                    "SLIPWAY_RUNNER_PID": str(os.getpid()),
                    "SLIPWAY_LOG_FORMAT": "json",
                    "PYTHONSAFEPATH": "1",  # a file called like a module in the user's folder is not that module
                }
            )
            progress.task_started(task)
            start = time.monotonic()
            log_path = run_dir / "logs" / f"{task}.log"
            # KFP's own command leaves a folder behind at each start, wherever temporary files go.
            with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
                environment["TMPDIR"] = scratch
                code = _run_followed(command, environment, log_path, lambda event: progress.task_logged(task, event))
            seconds = time.monotonic() - start
            record = _take_wall_clock(run_dir, task, seconds, code)
            progress.task_ended(task, record, code == 0, seconds)
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    return FollowedTask


def _task_name(command: list[str]) -> str:
    executor_input = json.loads(command[command.index("--executor_input") + 1])
    return Path(executor_input["outputs"]["outputFile"]).parent.name


def _take_wall_clock(run_dir: Path, task: str, seconds: float, code: int) -> StageRecord | None:
    record = read_stage(run_dir, task)
    if record is None and code != 0:
        record = StageRecord(name=task, status="RUNNING", started_at=utc_now(), seconds=seconds, cached=False)
    if record is None:
        return None
    if code != 0 and record.status == "RUNNING":
        last = (run_dir / "logs" / f"{task}.log").read_text(errors="replace").strip().rpartition("\n")[2]
        record = replace(record, status="FAILED", error=f"the process of {task} ended with status {code}: {last}")
    record = replace(record, seconds=seconds)
    write_stage(run_dir, record)
    return record


def _run_followed(
    command: list[str], environment: dict[str, str], log_path: Path, report: Callable[[Mapping[str, Any]], None]
) -> int:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as output, log_path.open(encoding="utf-8", errors="replace") as lines:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            while process.poll() is None:
                _report_events(lines, report)
                time.sleep(_POLL_SECONDS)
            _report_events(lines, report)
        finally:
            _end_group(process)
    return process.returncode


def _report_events(lines: Any, report: Callable[[Mapping[str, Any]], None]) -> None:
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                report(json.loads(line))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the task may have left running; SIGTERM first, so that a training can write what it has."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _task_handler(handler: type) -> Iterator[None]:
    """kfp.local has no registry of handlers; it looks this name up whenever it dispatches a task."""
    original = subprocess_task_handler.SubprocessTaskHandler
    subprocess_task_handler.SubprocessTaskHandler = handler
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = original


@contextlib.contextmanager
def _terminations_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    original = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, original)


@contextlib.contextmanager
def _quiet_kfp() -> Iterator[None]:
    """kfp.local prints banners to standard output and warns of settings that only a cluster uses."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)
