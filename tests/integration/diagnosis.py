"""What a person would look at first when a test on a cluster fails: events, pods and their logs."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.cluster import LiveCluster

_LOG_LINES = "60"
_CHARACTERS = 30_000


def describe_namespace(cluster: LiveCluster, namespace: str) -> str:
    """Events, pods and the last lines of every container's log."""
    parts = [
        _ask(
            cluster,
            "get",
            "pods,jobs,deployments,statefulsets,services,persistentvolumeclaims",
            "-o",
            "wide",
            namespace=namespace,
        ),
        _ask(cluster, "get", "events", "--sort-by=.lastTimestamp", namespace=namespace),
    ]
    for pod in _ask(cluster, "get", "pods", "-o", "name", namespace=namespace).split():
        if pod.startswith("pod/"):
            parts.append(_ask(cluster, "describe", pod, namespace=namespace))
            logs = ("logs", pod, "--all-containers", "--prefix", "--ignore-errors", f"--tail={_LOG_LINES}")
            parts.append(f"--- log of {pod}\n{_ask(cluster, *logs, namespace=namespace)}")
    return "\n".join(parts)[:_CHARACTERS]


def _ask(cluster: LiveCluster, *arguments: str, namespace: str) -> str:
    done = cluster.run_kubectl(*arguments, f"--namespace={namespace}", check=False, timeout_seconds=20)
    return done.stdout + done.stderr


@contextmanager
def diagnosed(cluster: LiveCluster, namespace: str) -> Iterator[None]:
    """Add what `describe_namespace` says to an error raised inside, before the namespace is taken down."""
    try:
        yield
    except Exception as error:
        error.add_note(f"namespace {namespace}:\n{describe_namespace(cluster, namespace)}")
        raise
