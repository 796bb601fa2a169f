"""How long a training over two pods takes to begin, beside the same torchrun with two local processes, on one cluster in turn.

    KUBECONFIG=... python -m tests.integration.measure_launch [--pairs N]

A pair is two pods from the trainer's image, one after the other. Both train on the digits with two processes; one launches an
Indexed Job of two pods, the other starts torchrun beside itself. Measured by what they log, from the moment that the launcher
creates the Job to the trainer's first line, which is written when all processes have met, read the data and stand before their
first step. The installation of the platform and the launching pod's own start are not part of it. What else runs on the machine
is: each measurement waits until the processors are mostly idle, as long as --patience lasts, and says how busy they were.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from slipway.cluster.client import open_cluster
from slipway.config import TrainConfig
from slipway.launch.worker_pod import WorkerNeeds
from slipway.settings import load_settings
from tests.integration.cluster import LiveCluster
from tests.integration.images import ensure_images
from tests.integration.kfp_run import built_images
from tests.integration.platform import installed_platform
from tests.integration.tenants import Tenant, tenant_namespace
from tests.integration.training import SMALL, Training, prepare_digits

WANTED_SECONDS = 5.0
_LOOK_SECONDS = 3.0
_IDLE_SHARE = 0.2
_RESOURCES = {**SMALL, "limits": {"cpu": "2", "memory": "4Gi"}}
_BEGINS = {True: "starting torchrun", False: "launching pods"}


def main(arguments: list[str]) -> int:
    """Exit status 0 when the median is within what is wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.measure_launch", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pairs", type=int, default=7, help="pairs to measure (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=300.0, help="seconds to wait in all for idle processors (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    local, pods = [], []
    watch = IdleWatch(options.patience)
    with prepared() as (tenant, image, dataset_uri):
        for number in range(options.pairs):
            busy = []
            for is_local, times in ((True, local), (False, pods)):
                busy.append(watch.wait())
                times.append(measure(tenant, image, dataset_uri, is_local=is_local))
            before = " and ".join(f"{share:.0%}" for share in busy)
            print(
                f"pair {number + 1}: torchrun {local[-1]:.2f} s, two pods {pods[-1]:.2f} s; busy before with {before}", flush=True
            )
    over = [pod - process for pod, process in zip(pods, local, strict=True)]
    for what, times in (("torchrun with two processes", local), ("two pods", pods), ("two pods, over torchrun", over)):
        print(f"{what}: median {statistics.median(times):.2f} s, from {min(times):.2f} to {max(times):.2f} s")
    return 0 if statistics.median(over) <= WANTED_SECONDS else 1


class IdleWatch:
    """Waits for idle processors, for so many seconds over all its waits."""

    def __init__(self, patience_seconds: float) -> None:
        self._left = patience_seconds

    def wait(self) -> float:
        """The processors' busy share in the last seconds before it returned."""
        while (busy := _measure_busy()) > _IDLE_SHARE and self._left > 0:
            self._left -= _LOOK_SECONDS
        return busy


def _measure_busy() -> float:
    before = _read_ticks()
    time.sleep(_LOOK_SECONDS)
    busy, total = (after - then for after, then in zip(_read_ticks(), before, strict=True))
    return busy / total


def _read_ticks() -> tuple[int, int]:
    """Ticks of all processors: those that worked, and all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


@contextmanager
def prepared() -> Iterator[tuple[Tenant, str, str]]:
    """The platform layer, a namespace beside it, the trainer's image and the data set's URI."""
    settings = load_settings()
    cluster = LiveCluster(kubeconfig=os.environ["KUBECONFIG"], api=open_cluster(settings))  # noqa: TID251 - as kubectl does
    images = ensure_images(cluster)
    with (
        tempfile.TemporaryDirectory(prefix="slipway-launch-") as folder,
        installed_platform(cluster, f"slipway-it-{uuid.uuid4().hex[:6]}", images) as platform,
        tenant_namespace(platform, f"t-launch-{uuid.uuid4().hex[:5]}") as tenant,
    ):
        uri = f"{tenant.state_uri}/data/digits"
        platform.storage.upload_folder(prepare_digits(Path(folder)), uri)
        yield tenant, built_images(images).trainer, uri


def measure(tenant: Tenant, image: str, dataset_uri: str, *, is_local: bool) -> float:
    """Seconds from a launcher's setting out to the first step."""
    training = Training(
        tenant=tenant,
        image=image,
        key=uuid.uuid4().hex,
        dataset_uri=dataset_uri,
        train=TrainConfig(num_nodes=2, epochs=1),
        needs=WorkerNeeds(resources=_RESOURCES),
        lease_seconds=120,
    )
    launcher = f"launcher-{training.key[:8]}"
    training.launch(launcher, local=is_local)
    end = training.await_end(launcher)
    if end.exit_code:
        raise AssertionError(end.log)
    begun, trained = (training.await_event(launcher, event)["timestamp"] for event in (_BEGINS[is_local], "training"))
    time.sleep(2.0)  # the pods' ends have their own cost
    return (datetime.fromisoformat(trained) - datetime.fromisoformat(begun)).total_seconds()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
