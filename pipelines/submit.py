"""Send a compiled pipeline to a KFP endpoint: `python pipelines/submit.py --endpoint URL [--preset FILE] [section.key=value]`."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.compile import add_config_arguments, add_image_arguments, compile_training
from pipelines.endpoint import open_client, parse_endpoint, quiet_kfp, translated_errors
from pipelines.following import SubmitProgress, follow_run, list_failed_tasks
from pipelines.images import Images, choose_images
from slipway.config import Config
from slipway.errors import ConfigError, SlipwayError, SubmitError
from slipway.overrides import load_config, to_parameters
from slipway.settings import load_settings
from slipway.stages.record import new_run_id

EXPERIMENT = "slipway"
TIMEOUT_SECONDS = 24 * 3600.0
POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class SubmittedRun:
    """A run that the endpoint has taken."""

    run_id: str
    state: str
    """SUCCEEDED where the run was followed, else what it was when it was created."""
    dashboard_url: str


def submit_training(
    config: Config, *, endpoint: str, progress: SubmitProgress, images: Images | None = None, **options: Any
) -> SubmittedRun:
    """Compile the training pipeline for `config` and submit it; `options` are those of submit_pipeline.

    It is compiled anew because what a task requests (GPUs) is fixed in the file and no parameter changes it.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-submit-") as folder:
        ir = Path(folder) / "training.yaml"
        compile_training(config, ir, images)
        return submit_pipeline(ir, to_parameters(config), endpoint=endpoint, progress=progress, **options)


def submit_pipeline(
    ir: Path,
    parameters: Mapping[str, Any],
    *,
    endpoint: str,
    progress: SubmitProgress,
    experiment: str = EXPERIMENT,
    run_name: str = "",
    enable_caching: bool = True,
    follow: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> SubmittedRun:
    """Create a run of the compiled pipeline `ir` and, with `follow`, wait until it has SUCCEEDED.

    `enable_caching` False turns caching off for every task; True leaves it as compiled. A run that is no longer
    followed (timeout, Ctrl-C) goes on.

    Raises:
        ConfigError: `endpoint` is no address.
        SubmitError: the endpoint cannot be reached or refuses, the run does not succeed, or not in time.
        KeyboardInterrupt: after `progress.left_running`.
    """
    endpoint = parse_endpoint(endpoint)
    client = open_client(endpoint)
    with _package(ir, enable_caching) as package, translated_errors(endpoint, "creating the run"), quiet_kfp():
        created = client.run_pipeline(
            client.create_experiment(experiment).experiment_id,
            run_name or f"{ir.stem} {new_run_id()}",
            str(package),
            params=dict(parameters),
        )
    link = f"{endpoint}/#/runs/details/{created.run_id}"
    progress.run_created(created.run_id, link)
    if not follow:
        return SubmittedRun(run_id=created.run_id, state=created.state or "PENDING", dashboard_url=link)
    tasks = list_tasks(ir)
    goes_on = f"It goes on: {link}\nTo end it: curl -X POST {endpoint}/apis/v2beta1/runs/{created.run_id}:terminate"
    try:
        run = follow_run(
            lambda: client.get_run(created.run_id),
            endpoint=endpoint,
            tasks=tasks,
            timeout_seconds=timeout_seconds,
            poll_seconds=poll_seconds,
            progress=progress,
        )
    except KeyboardInterrupt:
        progress.left_running(f"Run {created.run_id} is no longer followed. {goes_on}")
        raise
    except SubmitError as error:
        raise SubmitError(f"{error} {goes_on}") from error
    if run.state != "SUCCEEDED":
        raise SubmitError(_explain_failure(run, tasks, link))
    return SubmittedRun(run_id=created.run_id, state=run.state, dashboard_url=link)


def list_tasks(ir: Path) -> list[str]:
    """The names of the pipeline's tasks, in the order of the file; loops and conditions are not among them."""
    spec = _read_documents(ir)[0]
    return [name for name, task in _iterate_tasks(spec) if "executorLabel" in spec["components"][task["componentRef"]["name"]]]


def _iterate_tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for component in (spec["root"], *spec["components"].values()):
        yield from component.get("dag", {}).get("tasks", {}).items()


def _read_documents(ir: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(ir.read_text()) if document]


@contextmanager
def _package(ir: Path, enable_caching: bool) -> Iterator[Path]:
    """`ir`, or a copy without caching: the client's own option reaches no task inside a condition or exit handler."""
    if enable_caching:
        yield ir
        return
    documents = _read_documents(ir)
    for _, task in _iterate_tasks(documents[0]):
        task["cachingOptions"] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-submit-") as folder:
        copy = Path(folder) / ir.name
        copy.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        yield copy


def _explain_failure(run: Any, tasks: Sequence[str], link: str) -> str:
    failed = list_failed_tasks(run, tasks)
    lines = [f"the run ended {run.state}{f': {run.error.message}' if run.error and run.error.message else ''}"]
    for task in failed:
        error = task.error or "the API gives no message; its log does"
        lines.append(f"  {task.name}: {error}{f' (pod {task.pod})' if task.pod else ''}")
    if not failed:
        lines.append("  no task failed: it was terminated, or could not start.")
    return "\n".join([*lines, f"Logs and reports: {link}"])


class PrintedProgress:
    """Progress as lines of text."""

    def run_created(self, run_id: str, dashboard_url: str) -> None:
        """Print the run's id and the link."""
        self._print(f"run {run_id}  {dashboard_url}")

    def run_changed(self, state: str) -> None:
        """Print the run's state."""
        self._print(f"run {state}")

    def task_changed(self, task: str, state: str) -> None:
        """Print the task's state."""
        self._print(f"  {task:<12} {state}")

    def left_running(self, message: str) -> None:
        """Print it where errors go."""
        print(message, file=sys.stderr)  # noqa: T201 - this module is a command

    def _print(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201


def submit_from_command_line(config: Config, *, endpoint: str = "", follow: bool = True, **options: Any) -> bool:
    """submit_training with printed progress and the endpoint of the settings by default; whether the run SUCCEEDED.

    A run that is not followed counts as one that did.
    """
    run = submit_training(
        config, endpoint=endpoint or load_settings().kfp_endpoint, progress=PrintedProgress(), follow=follow, **options
    )
    return run.state == "SUCCEEDED" or not follow


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 for a run that SUCCEEDED (or was created, with --no-follow), 1, 2 for wrong usage, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_image_arguments(parser)
    parser.add_argument("--endpoint", default="", help="address of the KFP API or dashboard (default: KF_PIPELINES_ENDPOINT)")
    parser.add_argument("--experiment", default=EXPERIMENT, help="experiment the run belongs to (default: %(default)s)")
    parser.add_argument("--run-name", default="", help="name of the run in the dashboard")
    parser.add_argument("--timeout-seconds", type=float, default=TIMEOUT_SECONDS, help="how long to follow it (default: a day)")
    parser.add_argument("--no-follow", action="store_true", help="return once the run is created")
    parser.add_argument("--no-caching", action="store_true", help="run every task, whatever the cluster has cached")
    options = parser.parse_args(arguments)
    try:
        submit_from_command_line(
            load_config(options.preset, options.overrides),
            endpoint=options.endpoint,
            images=choose_images(options.registry, options.image_tag),
            experiment=options.experiment,
            run_name=options.run_name,
            enable_caching=not options.no_caching,
            follow=not options.no_follow,
            timeout_seconds=options.timeout_seconds,
        )
    except SlipwayError as error:
        print(f"submit: {error}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
