import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.compile import compile_training
from pipelines.submit import main, submit_pipeline
from slipway.config import Config
from slipway.errors import SubmitError
from slipway.overrides import apply_overrides, list_settings, to_parameters
from slipway.settings import child_environment
from tests.kfp_api.server import KfpApi, Moment, Task, serve_kfp_api

ROOT = Path(__file__).parents[2]
KFP = str(Path(sys.executable).parent / "kfp")


class Recorder:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def run_created(self, run_id: str, dashboard_url: str) -> None:
        self.lines.append("created")

    def run_changed(self, state: str) -> None:
        self.lines.append(state)

    def task_changed(self, task: str, state: str) -> None:
        self.lines.append(f"{task} {state}")

    def left_running(self, message: str) -> None:
        self.lines.append(f"left: {message}")


@pytest.fixture(scope="module")
def ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "training.yaml"
    compile_training(Config(), path)
    return path


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with serve_kfp_api() as server:
        yield server


def submit(ir: Path, api: KfpApi, **options: object) -> tuple[object, Recorder]:
    recorder = Recorder()
    run = submit_pipeline(ir, to_parameters(Config()), endpoint=api.url, progress=recorder, poll_seconds=0.01, **options)
    return run, recorder


def enabled_caching(api: KfpApi) -> set[str]:
    (run,) = api.runs.values()
    components = run["pipeline_spec"]["pipeline_spec"]["components"].values()
    tasks = [task for component in components for task in component.get("dag", {}).get("tasks", {}).items()]
    return {name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache")}


def test_a_run_is_followed_until_it_has_succeeded_and_each_change_is_told_once(ir, api):
    ingest = Task("ingest", "SUCCEEDED")
    api.script = [
        Moment("PENDING"),
        Moment("RUNNING", (Task("ingest", "RUNNING"), Task("root-driver", "SUCCEEDED"))),
        Moment("RUNNING", (Task("ingest", "RUNNING"),)),
        Moment("SUCCEEDED", (ingest, Task("train", "SKIPPED"))),
    ]
    run, recorder = submit(ir, api)
    assert recorder.lines == ["created", "PENDING", "ingest RUNNING", "RUNNING", "ingest SUCCEEDED", "train SKIPPED", "SUCCEEDED"]
    assert run.state == "SUCCEEDED"
    assert run.dashboard_url == f"{api.url}/#/runs/details/{run.run_id}"


def test_parameters_arrive_with_their_own_types_and_the_experiment_is_made_once(ir, api):
    config = apply_overrides(
        Config(), ["train.epochs=3", "train.flip=true", "data.max_imbalance=50", "data.source=folder://it's here"]
    )
    for _ in range(2):
        submit_pipeline(ir, to_parameters(config), endpoint=api.url, progress=Recorder(), poll_seconds=0.01, experiment="ships")
    assert [experiment["display_name"] for experiment in api.experiments.values()] == ["ships"]
    arrived = next(iter(api.runs.values()))["runtime_config"]["parameters"]
    assert arrived == to_parameters(config)
    assert {setting.parameter: type(arrived[setting.parameter]) for setting in list_settings()} == {
        setting.parameter: setting.type for setting in list_settings()
    }


def test_the_platform_part_of_the_file_reaches_the_endpoint(ir, api):
    submit(ir, api)
    (run,) = api.runs.values()
    executors = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["securityContext"]["runAsNonRoot"] is True


def test_caching_stays_as_compiled_unless_it_is_turned_off_and_then_it_is_off_inside_conditions_too(ir, api):
    submit(ir, api)
    assert enabled_caching(api) == {"ingest", "preprocess", "train"}
    api.runs.clear()
    submit(ir, api, enable_caching=False)
    assert enabled_caching(api) == set()


def test_a_failed_run_names_the_tasks_that_failed_their_errors_and_their_pods(ir, api):
    api.script = [
        Moment(
            "FAILED", (Task("ingest", "SUCCEEDED"), Task("train", "FAILED", "OOMKilled: exit code 137"), Task("finish", "FAILED"))
        )
    ]
    with pytest.raises(SubmitError) as failure:
        submit(ir, api)
    message = str(failure.value)
    assert "train: OOMKilled: exit code 137 (pod train-impl-1)" in message
    assert "finish: the API gives no message" in message
    assert "ingest" not in message
    assert f"{api.url}/#/runs/details/" in message


def test_a_terminated_run_is_not_a_success(ir, api):
    api.script = [Moment("CANCELED")]
    with pytest.raises(SubmitError, match="no task failed: it was terminated"):
        submit(ir, api)


def test_a_run_that_takes_too_long_goes_on_and_the_error_says_how_to_end_it(ir, api):
    api.script = [Moment("RUNNING")]
    with pytest.raises(SubmitError, match=r"still RUNNING after 0.2 s. It goes on: .*\n.*curl -X POST .*:terminate"):
        submit(ir, api, timeout_seconds=0.2)
    assert api.terminated == []


def test_a_run_that_is_not_followed_is_left_to_itself(ir, api):
    run, recorder = submit(ir, api, follow=False)
    assert (run.state, recorder.lines, api.asked.is_set()) == ("PENDING", ["created"], False)


def test_an_endpoint_that_is_away_for_a_moment_does_not_end_the_following(ir, api):
    api.script = [Moment("RUNNING"), Moment(status=503), Moment(status=500), Moment("SUCCEEDED")]
    run, _ = submit(ir, api)
    assert run.state == "SUCCEEDED"


def test_an_answer_that_does_not_come_is_asked_for_again(ir, api, monkeypatch):
    monkeypatch.setattr("pipelines.endpoint._REQUEST_SECONDS", (1.0, 1.0))
    api.script = [Moment("RUNNING", delay_seconds=20), Moment("SUCCEEDED")]
    start = time.monotonic()
    submit(ir, api)
    assert time.monotonic() - start < 10


def test_an_endpoint_that_no_longer_knows_the_run_ends_the_following(ir, api):
    api.script = [Moment("RUNNING"), Moment(status=404)]
    with pytest.raises(SubmitError, match="failed with status 404"):
        submit(ir, api)


def test_an_api_that_fails_gives_its_own_words(ir, api):
    api.create_status = 500
    with pytest.raises(SubmitError, match=r"creating the run at .* failed with status 500: the database is away"):
        submit(ir, api)


def test_a_parameter_that_the_api_refuses_is_named(ir, api):
    with pytest.raises(SubmitError, match="status 400: input parameter train_epochs requires type NUMBER_INTEGER"):
        submit_pipeline(ir, {"train_epochs": "three"}, endpoint=api.url, progress=Recorder())
    with pytest.raises(SubmitError, match="not required by pipeline: train_epocs"):
        submit_pipeline(ir, {"train_epocs": 3}, endpoint=api.url, progress=Recorder())


def test_an_endpoint_where_nothing_listens_is_named_with_the_remedy(ir):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SubmitError, match=rf"nothing listens at http://127.0.0.1:{port} \(connection refused\)"):
        submit_pipeline(ir, {}, endpoint=f"http://127.0.0.1:{port}", progress=Recorder())
    with pytest.raises(SubmitError, match="is not known here"):
        submit_pipeline(ir, {}, endpoint="http://no-such-host.invalid", progress=Recorder())


def test_an_endpoint_that_accepts_and_says_nothing_is_given_up_in_time(ir, monkeypatch):
    monkeypatch.setattr("pipelines.endpoint.PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(SubmitError, match="did not answer within"):
        submit_pipeline(ir, {}, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", progress=Recorder())


def test_an_address_without_a_scheme_or_an_unknown_setting_is_wrong_usage(api, capsys):
    assert main(["--endpoint", "localhost:8888"]) == 2
    assert "Did you mean http://localhost:8888?" in capsys.readouterr().err
    assert main(["--endpoint", api.url, "train.epocs=3"]) == 2
    assert "Did you mean train.epochs" in capsys.readouterr().err
    assert api.runs == {}


def test_the_script_submits_a_preset_and_its_exit_status_says_whether_the_run_succeeded(api, capsys):
    preset = str(ROOT / "pipelines/presets/digits.yaml")
    assert main(["--endpoint", f"{api.url}/#/runs", "--preset", preset, "train.num_gpus=2"]) == 0
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"]["train_num_gpus"] == 2
    spec = run["pipeline_spec"]["pipeline_spec"]
    requested = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["accelerator"]
    assert requested["resourceCount"] == "2"
    assert f"{api.url}/#/runs/details/{run['run_id']}" in capsys.readouterr().out
    api.script = [Moment("FAILED")]
    assert main(["--endpoint", api.url]) == 1


@pytest.mark.parametrize(("states", "status"), [(("RUNNING", "SUCCEEDED"), 0), (("FAILED",), 1)])
def test_the_command_line_exits_0_only_for_a_run_that_succeeded(api, tmp_path, states, status):
    api.script = [Moment(state) for state in states]
    environment = child_environment(SLIPWAY_HOME=str(tmp_path), KF_PIPELINES_ENDPOINT=api.url)
    command = [str(Path(sys.executable).parent / "slipway"), "submit", "--experiment", "ships", "train.epochs=3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"]["train_epochs"] == 3
    assert f"/#/runs/details/{run['run_id']}" in done.stdout


def test_ctrl_c_leaves_the_run_going_and_says_how_to_end_it(api, tmp_path):
    api.script = [Moment("RUNNING")]
    # A process started by a shell in the background ignores SIGINT, and so would this one.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from pipelines.submit import main; sys.exit(main(['--endpoint', {api.url!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert api.asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "is no longer followed. It goes on" in errors
    assert ":terminate" in errors
    assert api.terminated == []


def test_the_stock_kfp_command_runs_the_same_file(ir, api, tmp_path):
    api.script = [Moment("SUCCEEDED")]
    command = [
        KFP,
        "--endpoint",
        api.url,
        "run",
        "create",
        "-e",
        "ships",
        "-f",
        str(ir),
        "-t",
        "30",
        "train_epochs=3",
        "data_source=sklearn://wine",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=child_environment(HOME=str(tmp_path)), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCEEDED" in done.stdout
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"] == {"train_epochs": 3, "data_source": "sklearn://wine"}
