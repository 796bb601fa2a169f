"""What node 0 logs, copied to this process's standard error while it is written, from each pod that takes its place."""

import queue
import sys
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TextIO

from slipway.cluster.client import Cluster
from slipway.log import get_logger

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

_READ_SECONDS = (5.0, 60.0)
_AGAIN_SECONDS = 1.0
_OVERLAP_SECONDS = 10

log = get_logger(__name__)


class RankLog:
    """Follows one container of one pod after another, each to its end."""

    def __init__(self, cluster: Cluster, namespace: str, container: str, *, output: TextIO | None = None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._container = container
        self._output = output or sys.stderr
        self._seen: set[str] = set()
        self._pods: queue.Queue[str | None] = queue.Queue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rank-log", daemon=True)

    def __enter__(self) -> "RankLog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._pods.put(None)

    def follow(self, pod: "V1Pod") -> None:
        """Follow a pod's log once its container has begun; a pod that is followed already is left alone."""
        statuses = {one.name: one for one in pod.status.container_statuses or []}
        own = statuses.get(self._container)
        began = own is not None and (own.state.running is not None or own.state.terminated is not None)
        if began and pod.metadata.name not in self._seen:
            self._seen.add(pod.metadata.name)
            self._pods.put(pod.metadata.name)

    def drain(self, seconds: float) -> None:
        """Wait for what the pods that have ended wrote last, for at most `seconds`."""
        self._ended.set()
        self._pods.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (pod := self._pods.get()) is not None:
            _PodLog(self._cluster, self._namespace, pod, self._container, self._output).copy(self._ended)


class _PodLog:
    """One pod's log: a connection that breaks is made again, and what was shown is not shown twice."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str, output: TextIO) -> None:
        self._cluster = cluster
        self._where = (pod, namespace)
        self._container = container
        self._output = output
        self._last = ""
        self._last_at = 0.0

    def copy(self, ended: threading.Event) -> None:
        """Copy until the container has ended; a pod that is gone has nothing more to say."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        while True:
            try:
                for line in _read_lines(self._open()):
                    self._show(line)
                if self._has_ended():
                    return
            except HTTPError:  # nothing was written for a while, or the connection was lost
                pass
            except ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return
            if ended.wait(_AGAIN_SECONDS):
                return

    def _open(self) -> Any:
        since = {"since_seconds": int(time.monotonic() - self._last_at) + _OVERLAP_SECONDS} if self._last else {}
        return self._cluster.core.read_namespaced_pod_log(
            *self._where,
            container=self._container,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=_READ_SECONDS,
            **since,
        )

    def _show(self, line: str) -> None:
        stamp, _, text = line.partition(" ")
        if stamp > self._last:  # all of one form and length, to the nanosecond
            self._output.write(f"{text}\n")
            self._output.flush()
            self._last, self._last_at = stamp, time.monotonic()

    def _has_ended(self) -> bool:
        pod = self._cluster.core.read_namespaced_pod(*self._where)
        return pod.status.phase in ("Succeeded", "Failed")


def _read_lines(response: Any) -> Any:
    """The lines of a streamed answer, as they come."""
    rest = b""
    try:
        for chunk in response.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")
    finally:
        response.release_conn()
