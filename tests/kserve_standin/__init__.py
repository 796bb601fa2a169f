"""A stand-in for KServe's controller, where the real one cannot be installed: no registry there has its images.

It does what Slipway's deployment relies on, as KServe 0.20 does it in Standard mode: an InferenceService becomes a Deployment and
a Service `<name>-predictor` from its ServingRuntime, with the storage initializer in front and the service account's credentials,
the annotations copied to the pods, and KServe's status, with its quirks:

- Ready stays True through a broken rollout, for as long as the old pods are available;
- status.observedGeneration is the Deployment's;
- `modelStatus` says BlockedByFailedLoad with the initializer's log when a bundle cannot be fetched, nothing when the server
  crashes on it, and InvalidSpec for a runtime that is not there; `lastFailureInfo` stays after recovery;
- a storageUri of an unknown scheme is admitted, and only an event tells;
- status.url is a name under example.com, status.address.url the one that leads somewhere;
- whatever changes in a ServingRuntime rolls all that use it.

It does not: validate or default anything at admission, autoscale, canary, transform, explain, log payloads, know other runtimes
than a container of the namespace's own ServingRuntime or other stores than S3, or run an InferenceGraph (it is only kept). Its
storage initializer is Slipway's own storage module in the pipeline image, not KServe's.

One instance at a time works for a namespace: all, or those with a label, so that several sessions can share a cluster. Where
KServe's own controller runs, `serve_kserve` starts nothing.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from slipway.settings import child_environment
from slipway.storage.files import hash_json

CRDS = Path(__file__).parent / "crds.yaml"
LEASE_NAMESPACE = "default"
_REAL_CONTROLLER = "control-plane=kserve-controller-manager"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.1


def lease_name(namespace_selector: str) -> str:
    """The Lease of the instance that looks after these namespaces."""
    return f"kserve-standin-{hash_json(namespace_selector)[:8]}"


class Kubectl(Protocol):
    """A cluster that kubectl reaches."""

    @property
    def kubeconfig(self) -> str:
        """Path of its kubeconfig."""

    def kubectl(self, *arguments: str, stdin: str = ..., timeout_seconds: float = ...) -> str:
        """What kubectl writes to standard output."""


@contextmanager
def serve_kserve(cluster: Kubectl, initializer_image: str, *, namespace_selector: str = "") -> Iterator[None]:
    """Have something that reconciles InferenceServices: KServe's controller where it runs, else the stand-in.

    The stand-in looks after the namespaces whose labels `namespace_selector` selects, by default all.
    """
    real = cluster.kubectl("get", "deployments", "--all-namespaces", "-l", _REAL_CONTROLLER, "-o", "name", timeout_seconds=30)
    if real.strip():
        yield
        return
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS), timeout_seconds=30)
    cluster.kubectl("wait", "--for=condition=established", "--timeout=30s", "-f", str(CRDS), timeout_seconds=35)
    with tempfile.TemporaryDirectory(prefix="kserve-standin-") as folder:
        started, log_path = Path(folder) / "started", Path(folder) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.kserve_standin"),
                    *("--initializer-image", initializer_image, "--started-file", str(started)),
                    *("--namespace-selector", namespace_selector),
                ],
                cwd=Path(__file__).parents[2],
                env=child_environment(KUBECONFIG=cluster.kubeconfig),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _await_start(process, started, log_path)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            where = (lease_name(namespace_selector), f"--namespace={LEASE_NAMESPACE}")
            cluster.kubectl("delete", "lease", *where, "--ignore-not-found", timeout_seconds=30)
            errors = [line for line in log_path.read_text().splitlines() if "reconcile_failed" in line]
            sys.stderr.write("\n".join(errors[-20:]))


def _await_start(process: "subprocess.Popen[bytes]", started: Path, log_path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not started.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"KServe's stand-in did not start: {log_path.read_text()}")
        time.sleep(_POLL_SECONDS)
