"""What a task may use on a cluster: image, processor, memory, time, attempts, user."""

from dataclasses import dataclass, replace

from kfp import dsl, kubernetes

from pipelines.images import ImageKind, Images
from pipelines.ir import HASH_PLACEHOLDER, HASH_VARIABLE
from slipway.config import DeployConfig, TrainConfig
from slipway.deploy.duration import count_longest_seconds
from slipway.errors import ConfigError
from slipway.launch.worker_pod import SHARED_MEMORY, WorkerNeeds
from slipway.placement import parse_node_selector, parse_tolerations

NON_ROOT_USER = 1000
HOME_ON_CLUSTER = "/tmp/slipway"  # noqa: S108 - a pod's own folder, gone with the pod
GPU = "nvidia.com/gpu"
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
CPU_REQUEST = "250m"
MEMORY_REQUEST = "512Mi"
LAUNCHER_MARGIN_SECONDS = 300
"""A launcher ends the pods of a training that takes too long before KFP ends the launcher, so that the step says why."""
CONFIG_MAP = "slipway"
CONFIG_KEYS = (
    "SLIPWAY_STATE_URI",
    "SLIPWAY_SERVING_NAMESPACE",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
)
"""What a task is told of the platform it runs on."""
SECRET = "slipway-s3"  # noqa: S105 - its name
SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits of one task."""

    image: ImageKind
    cpu: str
    memory: str
    timeout_seconds: int
    num_retries: int = 2
    backoff_seconds: int = 30
    caching: bool = True

    @property
    def retry_total_seconds(self) -> int:
        """Time since the first attempt after which KFP no longer retries: enough for every attempt at its longest."""
        waits = self.backoff_seconds * ((1 << self.num_retries) - 1)
        return (self.num_retries + 1) * self.timeout_seconds + waits


INGEST = Resources(image="pipeline", cpu="2", memory="4Gi", timeout_seconds=3600)
PREPROCESS = Resources(image="pipeline", cpu="2", memory="4Gi", timeout_seconds=3600)
TRAIN = Resources(image="trainer", cpu="4", memory="16Gi", timeout_seconds=24 * 3600)
"""Where training has pods of its own, each of them gets this."""
PROCESS_MEMORY_GIB = 4
"""Of that memory, what shared memory leaves to the processes themselves."""
LAUNCH = Resources(image="trainer", cpu="1", memory="2Gi", timeout_seconds=TRAIN.timeout_seconds)
"""The train task then: it waits."""
EVALUATE = Resources(image="pipeline", cpu="2", memory="4Gi", timeout_seconds=3600, caching=False)
DEPLOY = Resources(
    image="pipeline",
    cpu="1",
    memory="2Gi",
    timeout_seconds=count_longest_seconds(DeployConfig()),
    num_retries=1,
    caching=False,
)
"""With the settings' defaults; where they let a deployment take longer, its task has longer."""
FINISH = Resources(image="pipeline", cpu="500m", memory="1Gi", timeout_seconds=600, caching=False)

PLAN_PREDICTIONS = Resources(image="pipeline", cpu="1", memory="2Gi", timeout_seconds=3600, caching=False)
PREDICT = Resources(image="pipeline", cpu="4", memory="4Gi", timeout_seconds=12 * 3600, caching=False)
"""Each worker. One that is started again goes on after the shards that are done."""
PUBLISH_PREDICTIONS = Resources(image="pipeline", cpu="1", memory="2Gi", timeout_seconds=3600, caching=False)


def apply_resources(task: dsl.PipelineTask, resources: Resources, images: Images) -> None:
    """Give `task` its image, limits, timeout, retries, user and environment."""
    task.set_container_image(images.name(resources.image))
    task.set_cpu_request(CPU_REQUEST).set_cpu_limit(resources.cpu)
    task.set_memory_request(MEMORY_REQUEST).set_memory_limit(resources.memory)
    task.set_caching_options(resources.caching)
    task.set_retry(
        resources.num_retries,
        backoff_duration=f"{resources.backoff_seconds}s",
        backoff_factor=2.0,
        backoff_max_duration=f"{resources.retry_total_seconds}s",
    )
    task.set_env_variable("SLIPWAY_LOG_FORMAT", "json").set_env_variable("SLIPWAY_HOME", HOME_ON_CLUSTER)
    task.set_env_variable(HASH_VARIABLE, HASH_PLACEHOLDER)
    kubernetes.use_field_path_as_env(task, "SLIPWAY_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {key: key for key in CONFIG_KEYS})
    kubernetes.use_secret_as_env(task, SECRET, {key: key for key in SECRET_KEYS})
    kubernetes.set_timeout(task, resources.timeout_seconds)
    kubernetes.set_security_context(task, run_as_user=NON_ROOT_USER, run_as_non_root=True)


def apply_training(task: dsl.PipelineTask, train: TrainConfig, images: Images) -> None:
    """Give the train task what training needs: in its own pod, or in the pods that it launches, which it is told of."""
    if is_trained_in_pods(train):
        apply_resources(task, LAUNCH, images)
        task.set_env_variable("SLIPWAY_WORKER_POD", describe_worker(train).to_json())
    else:
        apply_resources(task, TRAIN, images)
        _apply_placement(task, train)


def apply_deploying(task: dsl.PipelineTask, config: DeployConfig, images: Images) -> None:
    """Give the deploy task what it needs, and tell it how much time that is: parameters of a run may ask for more."""
    given = replace(DEPLOY, timeout_seconds=max(DEPLOY.timeout_seconds, count_longest_seconds(config)))
    apply_resources(task, given, images)
    task.set_env_variable("SLIPWAY_TASK_SECONDS", str(given.timeout_seconds))


def is_trained_in_pods(train: TrainConfig) -> bool:
    """Whether the task on a cluster leaves the training to pods of its own."""
    return train.launcher in ("indexed-job", "train-job") or (train.launcher == "auto" and train.num_nodes > 1)


def describe_worker(train: TrainConfig) -> WorkerNeeds:
    """What one pod of a training gets: as much as the train task would."""
    limits: dict[str, str] = {"cpu": TRAIN.cpu, "memory": TRAIN.memory}
    gpus = {GPU: str(train.num_gpus)} if train.num_gpus > 0 else {}
    return WorkerNeeds(
        resources={"requests": {"cpu": CPU_REQUEST, "memory": MEMORY_REQUEST, **gpus}, "limits": {**limits, **gpus}},
        tolerations=_list_tolerations(train),
        node_selector=parse_node_selector(train.node_selector),
        shared_memory=_size_shared_memory(train),
        timeout_seconds=TRAIN.timeout_seconds - LAUNCHER_MARGIN_SECONDS,
    )


def _size_shared_memory(train: TrainConfig) -> str:
    """Size of /dev/shm; "" where the settings leave it open."""
    most = int(TRAIN.memory.removesuffix("Gi")) - PROCESS_MEMORY_GIB
    if train.shared_memory_gib > most:
        raise ConfigError(
            f"train.shared_memory_gib is {train.shared_memory_gib}; accepted: 0 to {most}. What lies in /dev/shm counts "
            f"against the {TRAIN.memory} of memory that the pod may use, and its processes need {PROCESS_MEMORY_GIB}Gi of them."
        )
    return f"{train.shared_memory_gib}Gi" if train.shared_memory_gib else ""


def _list_tolerations(train: TrainConfig) -> tuple[dict[str, str], ...]:
    """Those of GPU nodes where GPUs are asked for, and those of the settings."""
    own = parse_tolerations(train.tolerations)
    return (GPU_TOLERATION, *(one for one in own if one != GPU_TOLERATION)) if train.num_gpus > 0 else own


def _apply_placement(task: dsl.PipelineTask, train: TrainConfig) -> None:
    """Shared memory for the processes of one training, GPUs where asked for, and the nodes that it may run on."""
    kubernetes.empty_dir_mount(
        task,
        volume_name="dshm",
        mount_path="/dev/shm",  # noqa: S108
        medium="Memory",
        size_limit=_size_shared_memory(train) or SHARED_MEMORY,
    )
    if train.num_gpus > 0:
        task.set_accelerator_type(GPU).set_accelerator_limit(train.num_gpus)
    for toleration in _list_tolerations(train):
        kubernetes.add_toleration(task, **toleration)
    for key, value in parse_node_selector(train.node_selector).items():
        kubernetes.add_node_selector(task, key, value)
