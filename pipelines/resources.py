"""What a task may use on a cluster: image, processor, memory, time, attempts, user."""

from dataclasses import dataclass

from kfp import dsl, kubernetes

from pipelines import images

NON_ROOT_USER = 1000
HOME_ON_CLUSTER = "/tmp/slipway"  # noqa: S108 - a pod's own folder, gone with the pod
GPU = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits of one task."""

    image: str
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


INGEST = Resources(image=images.PIPELINE, cpu="2", memory="4Gi", timeout_seconds=3600)
PREPROCESS = Resources(image=images.PIPELINE, cpu="2", memory="4Gi", timeout_seconds=3600)
TRAIN = Resources(image=images.TRAINER, cpu="4", memory="16Gi", timeout_seconds=24 * 3600)
EVALUATE = Resources(image=images.PIPELINE, cpu="2", memory="4Gi", timeout_seconds=3600, caching=False)
DEPLOY = Resources(image=images.PIPELINE, cpu="1", memory="2Gi", timeout_seconds=900, num_retries=1, caching=False)
FINISH = Resources(image=images.PIPELINE, cpu="500m", memory="1Gi", timeout_seconds=600, caching=False)


def apply_resources(task: dsl.PipelineTask, resources: Resources) -> None:
    """Give `task` its image, limits, timeout, retries, user and environment."""
    task.set_container_image(resources.image)
    task.set_cpu_request("250m").set_cpu_limit(resources.cpu)
    task.set_memory_request("512Mi").set_memory_limit(resources.memory)
    task.set_caching_options(resources.caching)
    task.set_retry(
        resources.num_retries,
        backoff_duration=f"{resources.backoff_seconds}s",
        backoff_factor=2.0,
        backoff_max_duration=f"{resources.retry_total_seconds}s",
    )
    task.set_env_variable("SLIPWAY_LOG_FORMAT", "json").set_env_variable("SLIPWAY_HOME", HOME_ON_CLUSTER)
    kubernetes.use_field_path_as_env(task, "SLIPWAY_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.set_timeout(task, resources.timeout_seconds)
    kubernetes.set_security_context(task, run_as_user=NON_ROOT_USER, run_as_non_root=True)


def apply_accelerators(task: dsl.PipelineTask, num_gpus: int) -> None:
    """Shared memory for the processes of one training; GPUs and the toleration of their nodes where asked for."""
    kubernetes.empty_dir_mount(task, volume_name="dshm", mount_path="/dev/shm", medium="Memory", size_limit="2Gi")  # noqa: S108
    if num_gpus > 0:
        task.set_accelerator_type(GPU).set_accelerator_limit(num_gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
