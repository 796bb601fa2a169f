"""The environment, read once and typed. No other module looks at environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from slipway.errors import ConfigError

SQLITE_SCHEME = "sqlite:///"
_SERVING_PREFIX = "SLIPWAY_SERVING_"
_ENGINE_SETTINGS = ("ENGINE", "PRECISION", "DEVICE", "THREADS")
_SERVING_NAMESPACE = "SLIPWAY_SERVING_NAMESPACE"  # of InferenceServices: no option of the predictor

LogFormat = Literal["console", "json"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where this process keeps its state and which services it talks to."""

    home: Path
    """Runs, cache, MLflow's SQLite file and the local serving state. SLIPWAY_HOME; `.slipway` by default."""
    run_id: str
    """Id of the pipeline run this process belongs to. SLIPWAY_RUN_ID; "" outside a run."""
    ir_hash: str
    """SLIPWAY_IR_HASH: the compiled pipeline that this process is a task of, as the file itself says; "" outside of one."""
    runner_pid: int
    """Process that follows this stage; the stage ends when it is gone. SLIPWAY_RUNNER_PID; 0 for none."""
    log_format: LogFormat
    """SLIPWAY_LOG_FORMAT: `console` for people, `json` for collectors (the default outside a terminal run)."""
    mlflow_tracking_uri: str
    """MLFLOW_TRACKING_URI; SQLite under `home` by default."""
    mlflow_run_id: str
    """MLFLOW_RUN_ID, which KFP's MLflow plugin injects: the run to join instead of starting one."""
    kfp_endpoint: str
    """KF_PIPELINES_ENDPOINT; "" when unset."""
    state_uri: str
    """SLIPWAY_STATE_URI: where runs, cache, unfinished work and models are kept for all pods; "" keeps them in `home` alone."""
    s3_endpoint: str
    """AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; "" when unset."""
    s3_region: str
    """AWS_REGION; us-east-1 by default, which servers other than Amazon's take for any."""
    s3_access_key: str
    """AWS_ACCESS_KEY_ID."""
    s3_secret_key: str
    """AWS_SECRET_ACCESS_KEY. Never logged."""
    s3_session_token: str
    """AWS_SESSION_TOKEN, which temporary credentials come with; "" for others. Never logged."""
    s3_ca_file: Path | None
    """AWS_CA_BUNDLE: certificates of authorities to trust besides the system's; None for no others."""
    in_cluster: bool
    """Whether this process runs in a pod (KUBERNETES_SERVICE_HOST)."""
    serving_namespace: str
    """SLIPWAY_SERVING_NAMESPACE: where InferenceServices live; `slipway` by default."""
    pod_name: str
    """KFP_POD_NAME: the pod of this pipeline task; "" outside a cluster."""
    pod_uid: str
    """KFP_POD_UID."""
    worker_pod: str
    """SLIPWAY_WORKER_POD: what the compiled pipeline gives each worker of a training over several pods, as JSON; "" for none."""
    task_seconds: int
    """SLIPWAY_TASK_SECONDS: the time limit of this task, where the compiled pipeline says it; 0 for none."""
    model_version: str
    """SLIPWAY_MODEL_VERSION: version in the predictor's answers, where its command line names none."""
    serving: Mapping[str, str] = field(hash=False)
    """The predictor's options by their names in lower case, from SLIPWAY_SERVING_NAME; see `slipway.serving.process.options`."""

    def __repr__(self) -> str:
        return f"Settings(home={self.home}, run_id={self.run_id!r}, mlflow_tracking_uri={self.mlflow_tracking_uri!r})"

    @property
    def runs_dir(self) -> Path:
        """One folder a run: its record, stage records, logs and artifacts."""
        return self.home / "runs"

    @property
    def run_dir(self) -> Path:
        """The folder of this process's run; work outside a run shares one called `standalone`."""
        return self.runs_dir / (self.run_id or "standalone")

    @property
    def cache_dir(self) -> Path:
        """Finished stage outputs, keyed by the content that produced them."""
        return self.home / "cache"

    @property
    def work_dir(self) -> Path:
        """State of unfinished work (checkpoints), keyed like the cache."""
        return self.home / "work"

    @property
    def models_uri(self) -> str:
        """Where bundles lie for an InferenceService to load; "" without `state_uri`."""
        return f"{self.state_uri}/models" if self.state_uri else ""

    @property
    def serving_dir(self) -> Path:
        """What the local deploy target serves, one folder a model name."""
        return self.home / "serving"


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file, with the signs escaped that would end its path."""
    return SQLITE_SCHEME + str(path).replace("%", "%25").replace("?", "%3F")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (the process environment by default).

    Raises:
        ConfigError: a variable holds a value that is not accepted.
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("SLIPWAY_HOME") or ".slipway").absolute()
    log_format = env.get("SLIPWAY_LOG_FORMAT") or "console"
    if log_format not in ("console", "json"):
        raise ConfigError(f"SLIPWAY_LOG_FORMAT is {log_format!r}; accepted: console, json. Unset it or correct it.")
    return Settings(
        home=home,
        run_id=env.get("SLIPWAY_RUN_ID", ""),
        ir_hash=env.get("SLIPWAY_IR_HASH", ""),
        runner_pid=_read_number(env, "SLIPWAY_RUNNER_PID"),
        log_format="json" if log_format == "json" else "console",
        mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or sqlite_uri(home / "mlflow.db"),
        mlflow_run_id=env.get("MLFLOW_RUN_ID", ""),
        kfp_endpoint=env.get("KF_PIPELINES_ENDPOINT", ""),
        state_uri=env.get("SLIPWAY_STATE_URI", "").rstrip("/"),
        s3_endpoint=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL", ""),
        s3_region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
        s3_access_key=env.get("AWS_ACCESS_KEY_ID", ""),
        s3_secret_key=env.get("AWS_SECRET_ACCESS_KEY", ""),
        s3_session_token=env.get("AWS_SESSION_TOKEN", ""),
        s3_ca_file=Path(env["AWS_CA_BUNDLE"]) if env.get("AWS_CA_BUNDLE") else None,
        in_cluster="KUBERNETES_SERVICE_HOST" in env,
        serving_namespace=env.get(_SERVING_NAMESPACE) or "slipway",
        pod_name=env.get("KFP_POD_NAME", ""),
        pod_uid=env.get("KFP_POD_UID", ""),
        worker_pod=env.get("SLIPWAY_WORKER_POD", ""),
        task_seconds=_read_number(env, "SLIPWAY_TASK_SECONDS"),
        model_version=env.get("SLIPWAY_MODEL_VERSION", ""),
        serving={
            name.removeprefix(_SERVING_PREFIX).lower(): value
            for name, value in env.items()
            if name.startswith(_SERVING_PREFIX) and name != _SERVING_NAMESPACE
        },
    )


def _read_number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name) or "0"
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name} is {text!r}; accepted: a whole number, 0 or more. Unset it or correct it.")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process's place among those that torchrun started."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    """Those on this machine."""
    restart_count: int


def load_process_group(environ: Mapping[str, str] | None = None) -> ProcessGroup:
    """Read what torchrun sets; a process started without it is the only one."""
    env = os.environ if environ is None else environ
    return ProcessGroup(
        rank=int(env.get("RANK", "0")),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        world_size=int(env.get("WORLD_SIZE", "1")),
        local_world_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        restart_count=int(env.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with `changes`, for a process about to be started."""
    return {**os.environ, **changes}


def predictor_environment() -> dict[str, str]:
    """This process's environment for a predictor that answers it alone: of the predictor's settings, those of the engine."""
    kept = {f"{_SERVING_PREFIX}{name}" for name in _ENGINE_SETTINGS}
    return {name: value for name, value in os.environ.items() if not name.startswith(_SERVING_PREFIX) or name in kept}


def configure_mlflow_client() -> None:
    """Set what MLflow takes from the environment alone, where the user has not; call it before importing MLflow.

    No reports of its use to its makers, retries that end within half a minute, and no progress bars.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def configure_numpy() -> None:
    """One thread for its matrix products, for processes that make none; call it before importing NumPy.

    By default it starts one a core at its import, which spin for 60 ms each while others want the processor.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def configure_onnx_runtime() -> None:
    """Turn off ONNX Runtime's reports of its use to its makers, unless the user has set it; call it before importing it.

    Without this it writes an identifier under the home folder, a file under the temporary one, and sends events over the network.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
