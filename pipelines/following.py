"""Follow a run on a KFP endpoint until it ends, with each change of state reported once."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from pipelines.endpoint import translated_errors
from slipway.errors import SubmitError

END_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
LOST_SECONDS = 60.0
"""How long an endpoint that answered before may be away: a port-forward is started again within that."""


class SubmitProgress(Protocol):
    """What a person sees of a run on a cluster."""

    def run_created(self, run_id: str, dashboard_url: str) -> None:
        """The endpoint has taken the run."""

    def run_changed(self, state: str) -> None:
        """The run is in another state: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELING, CANCELED."""

    def task_changed(self, task: str, state: str) -> None:
        """One of the pipeline's tasks is in another state; SKIPPED is a task that was not needed."""

    def left_running(self, message: str) -> None:
        """Following ended before the run did; the message says how to end the run itself."""


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task that failed, and what the API says of it."""

    name: str
    error: str
    """"" where the API has no message; the task's log in the dashboard has."""
    pod: str


def follow_run(
    fetch: Callable[[], Any],
    *,
    endpoint: str,
    tasks: Collection[str],
    timeout_seconds: float,
    poll_seconds: float,
    progress: SubmitProgress,
) -> Any:
    """The run, once it has ended; `fetch` gets it from the API.

    Raises:
        SubmitError: it has not ended in time, or the endpoint was away for longer than LOST_SECONDS.
    """
    deadline = time.monotonic() + timeout_seconds
    last_contact = time.monotonic()
    state, states = "", dict[str, str]()
    while True:
        try:
            with translated_errors(endpoint, "following the run"):
                run = fetch()
        except SubmitError as error:
            if _is_final(error) or time.monotonic() - last_contact > min(LOST_SECONDS, timeout_seconds):
                raise
            time.sleep(poll_seconds)
            continue
        last_contact = time.monotonic()
        states = _report_tasks(run, tasks, states, progress)
        if (run.state or "PENDING") != state:
            state = run.state or "PENDING"
            progress.run_changed(state)
        if state in END_STATES:
            return run
        if time.monotonic() + poll_seconds > deadline:
            raise SubmitError(f"the run is still {state} after {timeout_seconds:g} s.")
        time.sleep(poll_seconds)


def _is_final(error: SubmitError) -> bool:
    """Whether the API itself says no: asking again gets the same answer."""
    status = getattr(error.__cause__, "status", 0) or 0
    return 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS  # noqa: PLR2004


def _report_tasks(run: Any, tasks: Collection[str], known: Mapping[str, str], progress: SubmitProgress) -> dict[str, str]:
    states = {detail.display_name: detail.state for detail in _details(run) if detail.display_name in tasks and detail.state}
    for task, state in states.items():
        if known.get(task) != state:
            progress.task_changed(task, state)
    return states


def list_failed_tasks(run: Any, tasks: Collection[str]) -> list[FailedTask]:
    """The pipeline's tasks that failed; a message may stand on the task or on what KFP made of it (driver, executor)."""
    details = _details(run)
    by_id = {key: detail for detail in details for key in (detail.task_id, detail.pod_name) if key}
    failed = []
    for detail in details:
        if detail.display_name in tasks and detail.state == "FAILED":
            family = [detail, *_descendants(detail, by_id, {detail.task_id})]
            error = next((one.error.message for one in family if one.error and one.error.message), "")
            pod = next((one.pod_name for one in reversed(family) if one.pod_name and one.state == "FAILED"), "")
            failed.append(FailedTask(name=detail.display_name, error=error, pod=pod))
    return failed


def _details(run: Any) -> Sequence[Any]:
    return (run.run_details and run.run_details.task_details) or []


def _descendants(detail: Any, by_id: Mapping[str, Any], seen: set[str]) -> Iterator[Any]:
    for child in detail.child_tasks or []:
        found = by_id.get(child.task_id or child.pod_name)
        if found is not None and found.task_id not in seen:
            seen.add(found.task_id)
            yield found
            yield from _descendants(found, by_id, seen)
