"""A Kubernetes API server's storage over HTTP: objects with versions, conflicts and preconditions, and nothing that acts on them.

It stands in for a cluster where only that matters: whether a change overwrites another one, who holds a lease. It knows no kinds,
selects by no label, checks no schema, no rights and no admission, and runs nothing; the integration tests have a real cluster
for all else.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from slipway.cluster.client import Cluster

Manifest = dict[str, Any]


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class KubeApi:
    """What is stored, by path such as `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME`."""

    objects: dict[str, Manifest] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each that was answered."""
    before_write: Callable[[str, str], None] = lambda method, path: None
    """Called with method and path before each write, outside of the lock: a test lets others come first."""
    _version: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, path: str, **content: Any) -> Manifest:
        """Store an object as somebody else would."""
        with self._lock:
            metadata = {**self.objects.get(path, {}).get("metadata", {"uid": str(uuid.uuid4())}), **content.pop("metadata", {})}
            self._version += 1
            metadata |= {"name": path.rpartition("/")[2], "namespace": "ns", "resourceVersion": str(self._version)}
            self.objects[path] = {**content, "metadata": metadata}
            return self.objects[path]

    def answer(self, method: str, path: str, body: Manifest) -> Manifest:
        """What the API server answers; _RefusedError where it refuses."""
        if method != "GET":
            self.before_write(method, path)
        with self._lock:
            self.requests.append(f"{method} {path}")
            if method == "POST":
                path = f"{path}/{body['metadata']['name']}"
                if path in self.objects:
                    raise _RefusedError(HTTPStatus.CONFLICT, f"{path} already exists")
                return self.put(path, **body)
            listed = [self.objects[name] for name in sorted(self.objects) if name.rpartition("/")[0] == path]
            if method == "GET" and listed:
                return {"items": listed}
            if path not in self.objects:
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"{path} not found")
            current = self.objects[path]
            if method == "PATCH":
                wanted = body.get("metadata", {}).get("resourceVersion", current["metadata"]["resourceVersion"])
                if wanted != current["metadata"]["resourceVersion"]:
                    raise _RefusedError(HTTPStatus.CONFLICT, "the object has been modified")
                return self.put(path, **_merge(current, body))
            if method == "DELETE":
                wanted = body.get("preconditions", {}).get("uid", current["metadata"]["uid"])
                if wanted != current["metadata"]["uid"]:
                    raise _RefusedError(HTTPStatus.CONFLICT, "the UID in the precondition is another one")
                del self.objects[path]
            return current


def _merge(current: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = copy.deepcopy(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


@contextmanager
def serve_kube_api() -> Iterator[tuple[KubeApi, Cluster]]:
    """The server on a free port, and a client of it, until the block ends."""
    from kubernetes import client

    api = KubeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            try:
                self._send(HTTPStatus.OK, api.answer(self.command, self.path.partition("?")[0], body or {}))
            except _RefusedError as error:
                self._send(error.status, {"kind": "Status", "message": str(error)})

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - the base class's names

        def _send(self, status: HTTPStatus, content: Manifest) -> None:
            payload = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    connection = client.ApiClient(configuration)
    try:
        yield (
            api,
            Cluster(
                namespace="ns",
                core=client.CoreV1Api(connection),
                batch=client.BatchV1Api(connection),
                apps=client.AppsV1Api(connection),
                coordination=client.CoordinationV1Api(connection),
                custom=client.CustomObjectsApi(connection),
            ),
        )
    finally:
        connection.rest_client.pool_manager.clear()
        connection.close()
        server.shutdown()
        server.server_close()
        thread.join()
