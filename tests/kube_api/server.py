"""A Kubernetes API server's storage over HTTP: objects with versions, conflicts and preconditions, and nothing that acts on them.

It stands in for a cluster where only that matters: whether a change overwrites another one, who holds a lease. It knows no kinds,
checks no schema, no rights and no admission, selects by labels and fields that are equal and by nothing else, and runs nothing;
the integration tests have a real cluster for all else.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
            namespace = path.partition("/namespaces/")[2].partition("/")[0]
            metadata |= {"name": path.rpartition("/")[2], "namespace": namespace, "resourceVersion": str(self._version)}
            metadata.setdefault("creationTimestamp", datetime.now(UTC).isoformat())
            content.setdefault("status", {})
            self.objects[path] = {**content, "metadata": metadata}
            return self.objects[path]

    def remove(self, path: str) -> None:
        """Delete an object as somebody else would, with all that it owns."""
        with self._lock:
            uid = self.objects.pop(path)["metadata"]["uid"]
            for other, content in list(self.objects.items()):
                if [one["uid"] for one in content["metadata"].get("ownerReferences", [])] == [uid]:
                    self.remove(other)

    def answer(self, method: str, path: str, body: Any, labels: str = "", fields: str = "") -> Manifest:
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
            if method == "GET" and (listed or path.partition("/namespaces/")[2].count("/") == 1):
                return {"items": [one for one in listed if _is_selected(one, labels, fields)]}
            if path not in self.objects:
                raise _RefusedError(HTTPStatus.NOT_FOUND, f"{path} not found")
            current = self.objects[path]
            if method == "PATCH":
                return self.put(path, **(_apply(current, body) if isinstance(body, list) else _merge_checked(current, body)))
            if method == "DELETE":
                wanted = body.get("preconditions", {}).get("uid", current["metadata"]["uid"])
                if wanted != current["metadata"]["uid"]:
                    raise _RefusedError(HTTPStatus.CONFLICT, "the UID in the precondition is another one")
                del self.objects[path]
            return current


def _is_selected(found: Manifest, labels: str, fields: str) -> bool:
    wanted, expected = (dict(term.split("=") for term in terms.split(",") if term) for terms in (labels, fields))
    matches = all(_read_field(found, path) == value for path, value in expected.items())
    return matches and wanted.items() <= found["metadata"].get("labels", {}).items()


def _read_field(found: Manifest, path: str) -> Any:
    return reduce(lambda part, name: part.get(name, {}), path.split("."), found)


def _apply(current: Manifest, changes: list[Manifest]) -> Manifest:
    """RFC 6902, of it `test` and `add`."""
    changed = copy.deepcopy(current)
    for change in changes:
        *parents, last = change["path"].strip("/").split("/")
        holder = changed
        for name in parents:
            holder = holder[name]
        if change["op"] == "add":
            holder[last] = change["value"]
        elif holder.get(last) != change["value"]:
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"test of {change['path']} failed")
    return changed


def _merge_checked(current: Manifest, patch: Manifest) -> Manifest:
    version = current["metadata"]["resourceVersion"]
    if patch.get("metadata", {}).get("resourceVersion", version) != version:
        raise _RefusedError(HTTPStatus.CONFLICT, "the object has been modified")
    merged: Manifest = _merge(current, patch)
    return merged


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
                parts = urlsplit(self.path)
                query = parse_qs(parts.query)
                selectors = (query.get(name, [""])[0] for name in ("labelSelector", "fieldSelector"))
                self._send(HTTPStatus.OK, api.answer(self.command, parts.path, body or {}, *selectors))
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
