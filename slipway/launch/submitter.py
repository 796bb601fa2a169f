"""The contract of those that start a training, and the choice among them."""

from dataclasses import dataclass
from typing import Protocol

from slipway.config import TrainConfig
from slipway.errors import ConfigError
from slipway.settings import Settings
from slipway.training.job import TrainingJob, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A training to be done."""

    job: TrainingJob
    """Its folders are this process's; the bundle, history, environment and result are there in the end, whoever trained."""
    training_key: str
    """Hash of all that decides the result. Two submissions with one key are one training: what the first has done is not
    done again, and what it has begun is gone on with."""
    dataset_uri: str = ""
    """Where the data set of `job` also lies, for other machines; "" or a local path where it lies here alone."""
    work_uri: str = ""
    """The like of the job's work folder that outlives this machine and is reached from others; "" where there is none."""


class Submitter(Protocol):
    """Starts a training where it knows to, and follows it to its end."""

    def train(self, submission: Submission) -> TrainingResult:
        """Train and export; from the last checkpoint where there is one.

        Asked again with the same key while or after another call is at work, or was killed, it joins that work and gives its
        result. Signals that end this process end the training first.

        Raises:
            TrainingFailedError: with the words of the process, or of the scheduler, that knows why.
            ClusterError, StorageError: a service does not answer; the work stands and is joined by the next call.
        """


def choose_submitter(settings: Settings, train: TrainConfig) -> Submitter:
    """The submitter that `train.launcher` names; `auto` takes pods where there are several nodes and a cluster.

    Raises:
        ConfigError: the one that was asked for cannot work here.
    """
    from slipway.launch.local import LocalSubmitter

    name = train.launcher
    if name == "auto":
        name = "indexed-job" if train.num_nodes > 1 and settings.in_cluster else "local"
    if name == "local":
        return LocalSubmitter(settings)
    if not settings.state_uri:
        raise ConfigError(
            f"train.launcher={name} needs a folder that all pods can reach. Set SLIPWAY_STATE_URI=s3://BUCKET/state, or take "
            "train.launcher=local."
        )
    from slipway.cluster.client import open_cluster
    from slipway.launch.pods import PodSubmitter

    if name == "indexed-job":
        from slipway.launch.indexed_job import IndexedJobs

        return PodSubmitter(settings, open_cluster=open_cluster, open_workload=IndexedJobs)
    from slipway.launch.train_job import TrainJobs

    return PodSubmitter(settings, open_cluster=open_cluster, open_workload=TrainJobs)
