"""The cluster that KUBECONFIG names, as tests use it: kubectl for what a person would type, every call and wait bounded."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from slipway.cluster.client import Cluster

Manifest = Mapping[str, Any]
_Found = TypeVar("_Found")
_POLL_SECONDS = 0.3
_FORWARD_SECONDS = 60.0


class KubectlError(AssertionError):
    """kubectl ended with a status other than 0; the message is what it wrote."""


@dataclass(frozen=True, kw_only=True)
class LiveCluster:
    """A cluster that answers."""

    kubeconfig: str
    api: Cluster
    """The Python client, where a test asks often."""

    def kubectl(self, *arguments: str, stdin: str = "", timeout_seconds: float = 60) -> str:
        """What kubectl writes to standard output."""
        return self.run_kubectl(*arguments, stdin=stdin, timeout_seconds=timeout_seconds).stdout

    def run_kubectl(
        self, *arguments: str, stdin: str = "", timeout_seconds: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """As `kubectl`, with both streams and the status."""
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--request-timeout={timeout_seconds:g}s", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds + 5, check=False)
        if check and done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def apply(self, *manifests: Manifest, namespace: str = "") -> str:
        """Create or update objects; what kubectl says of each."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self.kubectl("apply", *_in(namespace), "-f", "-", stdin=content)

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """An object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, *_in(namespace), "-o", "json"))
        return found

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """The objects of a kind; those of all namespaces where none is named."""
        where = _in(namespace) or ["--all-namespaces"]
        chosen = ["-l", selector] if selector else []
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *where, *chosen, "-o", "json"))["items"]
        return items

    def begin_deleting(self, namespace: str) -> None:
        """Delete a namespace; its pods get a second to end, whatever they ask for. `await_deletion` waits until it is gone."""
        self.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
        self.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false", f"--namespace={namespace}")

    def await_deletion(self, namespace: str, *, timeout_seconds: float = 120) -> None:
        """Wait until a namespace is gone."""
        wait = ("--for=delete", f"--timeout={timeout_seconds:g}s")
        self.kubectl("wait", f"namespace/{namespace}", *wait, timeout_seconds=timeout_seconds)


def _in(namespace: str) -> Sequence[str]:
    return [f"--namespace={namespace}"] if namespace else []


def wait_until(what: str, probe: Callable[[], _Found | None], *, timeout_seconds: float, poll: float = _POLL_SECONDS) -> _Found:
    """What `probe` returns once it is neither None nor False; TimeoutError, which names `what` and the deadline, otherwise."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout_seconds:g} s")
        time.sleep(poll)


class Forward:
    """A Service of the cluster at a port of this machine: kubectl port-forward, begun again whenever its pod has gone."""

    def __init__(self, cluster: LiveCluster, namespace: str, target: str, port: int) -> None:
        self._command = [
            *("kubectl", f"--kubeconfig={cluster.kubeconfig}", "port-forward", f"--namespace={namespace}"),
            *("--address=127.0.0.1", target),
        ]
        self._target_port = port
        self._local_port = 0
        self._process: subprocess.Popen[str] | None = None
        self._started, self._ended = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def begin(self) -> None:
        """Start, and wait until it listens."""
        self._keeper.start()
        self._await_start()

    def renew(self) -> None:
        """Connect to a pod of now: one that has gone may leave connections that hang."""
        self._started.clear()
        assert self._process is not None
        self._process.terminate()
        self._await_start()

    @property
    def url(self) -> str:
        """Its address, the same one for as long as it is kept."""
        return f"http://127.0.0.1:{self._local_port}"

    def end(self) -> None:
        """End the helper process, for good."""
        self._ended.set()
        if self._process is not None:
            self._process.terminate()
        self._keeper.join(10)

    def _await_start(self) -> None:
        if not self._started.wait(_FORWARD_SECONDS):
            self.end()
            raise TimeoutError(f"{' '.join(self._command)} did not listen within {_FORWARD_SECONDS:g} s")

    def _keep(self) -> None:
        while not self._ended.is_set():
            with subprocess.Popen(
                [*self._command, f"{self._local_port or ''}:{self._target_port}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                self._process = process
                assert process.stdout is not None
                for line in process.stdout:  # it tells of each connection, and nobody else reads that
                    if line.startswith("Forwarding from"):
                        self._local_port = int(line.split(":")[1].split()[0])
                        self._started.set()
            self._ended.wait(_POLL_SECONDS)


@contextmanager
def forwarded(cluster: LiveCluster, namespace: str, target: str, port: int) -> Iterator[Forward]:
    """`Forward` to a Service or pod (`svc/minio`), until the block ends."""
    forward = Forward(cluster, namespace, target, port)
    forward.begin()
    try:
        yield forward
    finally:
        forward.end()
