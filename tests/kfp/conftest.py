"""A Kubeflow Pipelines endpoint that is there, and the services behind it. `make test-kfp KFP_ENDPOINT=...` runs these tests."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.images import Images, choose_images
from pipelines.submit import submit_training
from slipway.cluster.client import open_cluster
from slipway.config import Config
from slipway.overrides import apply_overrides
from slipway.settings import Settings, load_settings
from slipway.stages.record import summarize
from slipway.stages.state import find_run
from tests.integration.cluster import LiveCluster, forwarded
from tests.integration.platform import Platform

RUN_SECONDS = 2400.0
"""For one run: the nodes may have to fetch the images first."""
_TEST_SECONDS = 3 * RUN_SECONDS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--endpoint", default="", help="address of the KFP API or dashboard")
    parser.addoption("--registry", default="", help="registry and folder of the tasks' images; the released ones' own by default")
    parser.addoption("--image-tag", default="", help="which build of the images; this release by default")
    parser.addoption("--platform-namespace", default="slipway", help="where the platform layer is")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


@dataclass(frozen=True)
class Run:
    """A run that has ended, as KFP and as Slipway tell of it."""

    run_id: str
    states: dict[str, str]
    """What KFP says of each task."""
    summary: dict[str, Any]
    """What `slipway report --json` prints."""


class Observed:
    """Progress that keeps the last state of each task."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def run_created(self, run_id: str, dashboard_url: str) -> None:
        print(f"run {run_id}  {dashboard_url}")

    def run_changed(self, state: str) -> None:
        print(f"run {state}")

    def task_changed(self, task: str, state: str) -> None:
        self.states[task] = state

    def left_running(self, message: str) -> None:
        print(message)


@dataclass(frozen=True)
class Installation:
    """A Kubeflow Pipelines with Slipway's platform beside it."""

    endpoint: str
    images: Images
    platform: Platform
    settings: Settings

    def submit(self, *overrides: str) -> Run:
        """Run the training pipeline to its end; SubmitError, which says which task failed and why, where it does not succeed."""
        observed = Observed()
        config = apply_overrides(Config(), overrides)
        submitted = submit_training(
            config, endpoint=self.endpoint, progress=observed, images=self.images, timeout_seconds=RUN_SECONDS
        )
        summary = summarize(find_run(self.settings, submitted.run_id))
        return Run(run_id=submitted.run_id, states=observed.states, summary=summary)


@pytest.fixture(scope="session")
def installation(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """What the options name; a run is refused at once where the endpoint or the cluster is not given."""
    endpoint = pytestconfig.getoption("--endpoint")
    kubeconfig = os.environ.get("KUBECONFIG", "")  # noqa: TID251 - as kubectl does
    if not endpoint or not kubeconfig:
        pytest.exit("usage: make test-kfp KFP_ENDPOINT=http://HOST:PORT, with KUBECONFIG set (docs/testing.md)", 2)
    cluster = LiveCluster(kubeconfig=kubeconfig, api=open_cluster(load_settings()))
    namespace = pytestconfig.getoption("--platform-namespace")
    told = cluster.get("configmap", "slipway", namespace)["data"]
    with forwarded(cluster, namespace, "svc/minio", 9000) as minio, forwarded(cluster, namespace, "svc/mlflow", 5000) as mlflow:
        platform = Platform(cluster=cluster, namespace=namespace, rendered=(), minio=minio, mlflow=mlflow, folder=Path())
        environment = platform.environment(
            told["SLIPWAY_SERVING_NAMESPACE"], tmp_path_factory.mktemp("laptop"), state=told["SLIPWAY_STATE_URI"]
        )
        images = choose_images(pytestconfig.getoption("--registry"), pytestconfig.getoption("--image-tag"))
        yield Installation(endpoint, images, platform, load_settings(environment))
