"""Launching a training over several pods as a step does: from a pod under the pipeline runner's service account."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client import ApiException, V1Job, V1Pod

from slipway.config import DataConfig, ModelConfig, TrainConfig
from slipway.data.ingest import ingest_source
from slipway.data.preprocess import build_dataset
from slipway.launch.worker_pod import WorkerNeeds
from slipway.launch.workload import TRAINING_LABEL
from slipway.training.job import HISTORY_NAME, TrainingJob
from slipway.training.work_folder import WorkFolder
from tests.integration.cluster import Manifest, wait_until
from tests.integration.pods import PodEnd, await_pod, build_pod
from tests.integration.tenants import Tenant

RUN_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
MODEL = ModelConfig(width=0.25)
SMALL: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "400Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
LEASE_SECONDS = 20
"""Short of the launcher's own, which is two minutes."""

# What stands in for a step that dies without a word: SIGUSR1, since a container's first process cannot be killed from inside.
_PROGRAM = """
import functools, json, os, signal, sys
from pathlib import Path
from slipway.cluster.client import open_cluster
from slipway.config import ModelConfig, TrainConfig
from slipway.errors import SlipwayError
from slipway.launch.indexed_job import IndexedJobs
from slipway.launch.pods import PodSubmitter
from slipway.launch.local import LocalSubmitter
from slipway.launch.submitter import Submission
from slipway.log import configure_logging
from slipway.settings import load_settings
from slipway.training.job import TrainingJob

signal.signal(signal.SIGUSR1, lambda *_: os._exit(9))
told = json.loads(sys.argv[1])
settings = load_settings()
configure_logging("json")
train = TrainConfig(**told["train"])
job = TrainingJob(
    dataset_dir=Path("/tmp/dataset"), bundle_dir=Path("/tmp/bundle"), work_dir=Path("/tmp/work"),
    model=ModelConfig(**told["model"]), train=train,
)
submission = Submission(job=job, training_key=told["key"], dataset_uri=told["dataset_uri"], work_uri=told["work_uri"])
open_workload = functools.partial(IndexedJobs, lease_seconds=told["lease_seconds"])
try:
    if told["local"]:
        from slipway.storage.objects import ObjectStorage
        ObjectStorage(settings).download_folder(told["dataset_uri"], job.dataset_dir)
        result = LocalSubmitter(settings).train(submission)
    else:
        result = PodSubmitter(settings, open_cluster=open_cluster, open_workload=open_workload).train(submission)
except SlipwayError as error:
    print(json.dumps({"event": "failed", "kind": type(error).__name__, "message": str(error)}), flush=True)
    sys.exit(1)
print(json.dumps({"event": "result", "bundle_id": result.bundle_id, "num_epochs": result.num_epochs}), flush=True)
"""


def prepare_digits(folder: Path) -> Path:
    """scikit-learn's digits as a data set."""
    ingest_source("sklearn://digits", folder / "raw")
    build_dataset(folder / "raw", folder / "dataset", DataConfig())
    return folder / "dataset"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training in a tenant's namespace; its launchers share a key."""

    tenant: Tenant
    image: str
    key: str
    dataset_uri: str
    train: TrainConfig
    needs: WorkerNeeds
    lease_seconds: int = LEASE_SECONDS

    @property
    def folder(self) -> WorkFolder:
        """What launchers and nodes share, seen from here."""
        return WorkFolder(storage=self.tenant.platform.storage, uri=f"{self.tenant.state_uri}/work/train/{self.key}")

    def launch(self, name: str, *, local: bool = False, containers: Sequence[Manifest] = (), run_id: str = RUN_ID) -> None:
        """Create a launcher's pod. With `containers`, those stand beside it, and one called `main` is what workers take after."""
        told = {
            "key": self.key,
            "dataset_uri": self.dataset_uri,
            "work_uri": self.folder.uri,
            "train": dict(vars(self.train)),
            "model": vars(MODEL),
            "lease_seconds": self.lease_seconds,
            "local": local,
        }
        pod = build_pod(
            name,
            self.image,
            ["python", "-c", _PROGRAM, json.dumps(told)],
            env={"SLIPWAY_RUN_ID": run_id, "SLIPWAY_WORKER_POD": self.needs.to_json()},
            env_from=self.tenant.env_from,
            labels={"slipway.dev/role": "task"},
        )
        (launcher,) = pod["spec"]["containers"]
        launcher["env"] += [
            {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{field}"}}}
            for variable, field in (("KFP_POD_NAME", "name"), ("KFP_POD_UID", "uid"))
        ]
        if local:
            launcher["resources"] = {"requests": SMALL["requests"], "limits": {"cpu": "2", "memory": "4Gi"}}
        if containers:
            launcher["name"] = "launcher"
            pod["spec"]["containers"] += containers
        self.tenant.cluster.api.core.create_namespaced_pod(self.tenant.name, pod)

    def await_end(self, launcher: str, *, timeout_seconds: float = 180) -> PodEnd:
        """How a launcher ended."""
        return await_pod(self.tenant.cluster, self.tenant.name, launcher, timeout_seconds=timeout_seconds)

    def read_events(self, launcher: str, *, container: str = "main") -> list[dict[str, Any]]:
        """What a launcher has logged so far, node 0's lines among it."""
        try:
            log = self.tenant.cluster.api.core.read_namespaced_pod_log(launcher, self.tenant.name, container=container)
        except ApiException:  # its container has not begun
            return []
        return list(parse_events(log or ""))

    def await_event(self, launcher: str, event: str, *, timeout_seconds: float = 90, **fields: object) -> dict[str, Any]:
        """The first event of this name in a launcher's log whose fields have these values."""

        def find() -> dict[str, Any] | None:
            for one in self.read_events(launcher):
                if one["event"] == event and all(one.get(name) == value for name, value in fields.items()):
                    return one
            return None

        return wait_until(f"event {event} {fields} of {launcher}", find, timeout_seconds=timeout_seconds)

    def find_job(self) -> V1Job | None:
        """The training's Job."""
        jobs = self.tenant.cluster.api.batch.list_namespaced_job(
            self.tenant.name, label_selector=f"{TRAINING_LABEL}={self.key}"
        ).items
        return jobs[0] if jobs else None

    def await_job_gone(self, *, timeout_seconds: float) -> float:
        """Wait until there is no Job; the seconds it took."""
        begun = time.monotonic()
        wait_until("the Job's end", lambda: self.find_job() is None, timeout_seconds=timeout_seconds)
        return time.monotonic() - begun

    def find_workers(self) -> list[V1Pod]:
        """The training's pods."""
        core = self.tenant.cluster.api.core
        pods: list[V1Pod] = core.list_namespaced_pod(self.tenant.name, label_selector=f"{TRAINING_LABEL}={self.key}").items
        return pods

    def find_worker(self, index: int) -> str:
        """The running pod with this index."""
        label = "batch.kubernetes.io/job-completion-index"
        (name,) = [
            pod.metadata.name
            for pod in self.find_workers()
            if pod.metadata.labels[label] == str(index) and pod.status.phase == "Running" and not pod.metadata.deletion_timestamp
        ]
        return str(name)

    def delete_pod(self, name: str, *, grace_seconds: int | None = None) -> None:
        """Delete a pod; with no grace at all, as a node that is lost takes it."""
        options = {} if grace_seconds is None else {"grace_period_seconds": grace_seconds}
        with suppress(ApiException):
            self.tenant.cluster.api.core.delete_namespaced_pod(name, self.tenant.name, **options)

    def signal(self, launcher: str, name: str) -> None:
        """Send a signal to a launcher's process."""
        program = f"import os, signal; os.kill(1, signal.{name})"
        command = ("exec", launcher, f"--namespace={self.tenant.name}", "--container=main", "--", "python", "-c", program)
        self.tenant.cluster.run_kubectl(*command, check=False)

    def fetch_curve(self, folder: Path) -> list[dict[str, float]]:
        """The finished training's history."""
        job = TrainingJob(
            dataset_dir=folder, bundle_dir=folder / "bundle", work_dir=folder / "work", model=MODEL, train=self.train
        )
        self.folder.fetch_result(job)
        return read_curve(job.work_dir)


def read_curve(work_dir: Path) -> list[dict[str, float]]:
    """The epochs of a history."""
    epochs: list[dict[str, float]] = json.loads((work_dir / HISTORY_NAME).read_text())["epochs"]
    return epochs


def parse_events(log: str) -> list[Mapping[str, Any]]:
    """The lines of a log that are events."""
    events = []
    for line in log.splitlines():
        with suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict) and "event" in content:
                events.append(content)
    return events
