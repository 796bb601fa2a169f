"""A stand-in for the Kubeflow Pipelines API server (v2beta1 REST), for tests without a cluster.

It imitates what KFP's SDK and command line ask of it: health, experiments, runs. Like the API server it parses the pipeline
spec with KFP's own protocol buffers and refuses parameters that are missing, unknown or of the wrong type. It runs
nothing: a test scripts the states through which a run passes, one for each time it is asked for.
"""

import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

NOW = "2026-01-01T00:00:00Z"
_TYPES: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
}


@dataclass
class Task:
    """What the API tells of one task: KFP shows a task as a node, with its executor's pod as a child node."""

    name: str
    state: str
    error: str = ""

    def to_json(self) -> list[dict[str, Any]]:
        executor = {
            "task_id": f"{self.name}-pod",
            "display_name": "executor",
            "state": self.state,
            "pod_name": f"{self.name}-impl-1",
        }
        if self.error:
            executor["error"] = {"code": 13, "message": self.error}
        node = {
            "task_id": self.name,
            "display_name": self.name,
            "state": self.state,
            "child_tasks": [{"pod_name": f"{self.name}-impl-1"}],
        }
        return [node, executor]


@dataclass
class Moment:
    """One answer to "how is the run?"; an HTTP status instead of a state is a failure of the API."""

    state: str = "RUNNING"
    tasks: tuple[Task, ...] = ()
    status: int = 200
    delay_seconds: float = 0.0


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class KfpApi:
    """The server's state, as tests read and script it."""

    script: list[Moment] = field(default_factory=lambda: [Moment("PENDING"), Moment("RUNNING"), Moment("SUCCEEDED")])
    """Passed through one by one; the last one stays."""
    create_status: int = 200
    """What creating a run is answered with."""
    url: str = ""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    terminated: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set once a run has been asked for."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> dict[str, Any]:  # noqa: PLR0911
        match method, path.removeprefix("/apis/v2beta1").strip("/").split("/"):
            case "GET", ["healthz"]:
                return {"multi_user": False, "tag_name": "2.17.0", "commit_sha": "stand-in", "pipeline_store": "database"}
            case "GET", ["experiments"]:
                return self._list_experiments(query)
            case "POST", ["experiments"]:
                return self._create_experiment(body)
            case "GET", ["experiments", identity]:
                return self.experiments[identity]
            case "POST", ["runs"]:
                return self._create_run(body)
            case "GET", ["runs", identity]:
                return self._get_run(identity)
            case "POST", ["runs", action] if action.endswith(":terminate"):
                self.terminated.append(action.removesuffix(":terminate"))
                return {}
        raise RefusalError(404, f"no such method: {method} {path}")

    def _list_experiments(self, query: dict[str, list[str]]) -> dict[str, Any]:
        predicates = json.loads(query.get("filter", ['{"predicates": []}'])[0])["predicates"]
        wanted = [predicate["stringValue"] for predicate in predicates if predicate["key"] == "display_name"]
        found = [one for one in self.experiments.values() if not wanted or one["display_name"] in wanted]
        return {"experiments": found, "total_size": len(found)} if found else {}

    def _create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        experiment = {**body, "experiment_id": str(uuid.uuid4()), "created_at": NOW, "storage_state": "AVAILABLE"}
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    def _create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.create_status != 200:
            raise RefusalError(self.create_status, "the database is away")
        if body["experiment_id"] not in self.experiments:
            raise RefusalError(404, f"experiment {body['experiment_id']} not found")
        _check_run(body)
        run = {**body, "run_id": str(uuid.uuid4()), "created_at": NOW, "storage_state": "AVAILABLE", "state": "PENDING"}
        self.runs[run["run_id"]] = run
        return run

    def _get_run(self, identity: str) -> dict[str, Any]:
        self.asked.set()
        if identity not in self.runs:
            raise RefusalError(404, f"run {identity} not found")
        moment = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        time.sleep(moment.delay_seconds)
        if moment.status != 200:
            raise RefusalError(moment.status, "the database is away")
        details = [node for task in moment.tasks for node in task.to_json()]
        return {**self.runs[identity], "state": moment.state, "run_details": {"task_details": details}}


def _check_run(body: dict[str, Any]) -> None:
    document = body["pipeline_spec"]
    try:
        spec = json_format.ParseDict(document.get("pipeline_spec", document), pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(document.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise RefusalError(400, f"invalid pipeline spec: {error}") from None
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", spec.pipeline_info.name):
        raise RefusalError(400, f"invalid pipeline name: {spec.pipeline_info.name}")
    given = dict(body.get("runtime_config", {}).get("parameters") or {})
    for name, definition in spec.root.input_definitions.parameters.items():
        if name not in given:
            if not definition.is_optional and not definition.HasField("default_value"):
                raise RefusalError(
                    400, f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
            continue
        _check_parameter(name, pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(definition.parameter_type), given.pop(name))
    if given:
        raise RefusalError(400, f"parameter(s) provided are not required by pipeline: {', '.join(given)}")


def _check_parameter(name: str, kind: str, value: Any) -> None:
    accepted = isinstance(value, _TYPES[kind]) and (kind == "BOOLEAN" or not isinstance(value, bool))
    if kind == "NUMBER_INTEGER" and accepted:
        accepted = float(value).is_integer()
    if not accepted:
        raise RefusalError(400, f"input parameter {name} requires type {kind}, but the parameter value is not: {value!r}")


def _handler(api: KfpApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._answer(json.loads(self.rfile.read(length) or b"null"))

        def _answer(self, body: Any) -> None:
            parts = urlsplit(self.path)
            try:
                status, content = 200, api.answer(self.command, parts.path, parse_qs(parts.query), body)
            except RefusalError as refusal:
                status, content = refusal.status, {"error": str(refusal), "code": 3, "message": str(refusal), "details": []}
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that has given up is no error of the server's
            super().handle_error(request, address)


@contextmanager
def serve_kfp_api(**options: Any) -> Iterator[KfpApi]:
    """The stand-in on a free port of this machine, until the block ends."""
    api = KfpApi(**options)
    server = Server(("127.0.0.1", 0), _handler(api))
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
