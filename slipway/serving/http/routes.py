"""Which operation a path names."""

from dataclasses import dataclass
from typing import Literal

Operation = Literal[
    "alive",
    "docs",
    "openapi",
    "metrics",
    "server",
    "live",
    "server_ready",
    "list_v2",
    "index",
    "model",
    "ready",
    "infer",
    "list_v1",
    "model_v1",
    "predict",
]
READ = ("GET", "HEAD", "OPTIONS")
WRITE = ("POST", "OPTIONS")
METHODS: dict[Operation, tuple[str, ...]] = {"infer": WRITE, "predict": WRITE, "index": ("GET", "HEAD", "POST", "OPTIONS")}
"""Of the operations that are not read only."""

_FIXED: dict[str, Operation] = {
    "": "alive",
    "/docs": "docs",
    "/openapi.json": "openapi",
    "/metrics": "metrics",
    "/v2": "server",
    "/v2/health/live": "live",
    "/v2/health/ready": "server_ready",
    "/v2/models": "list_v2",
    "/v2/repository/index": "index",
    "/v1/models": "list_v1",
}
_PROBES: tuple[Operation, ...] = ("live", "server_ready", "ready")
_OF_MODEL: dict[str, Operation] = {"": "model", "ready": "ready", "infer": "infer"}
_V1, _V2 = "/v1/models/", "/v2/models/"


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for."""

    operation: Operation
    name: str = ""
    """Of the model, where the path has one."""
    version: str | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """That are accepted."""
        return METHODS.get(self.operation, READ)


def find_route(path: str) -> Route | None:
    """The operation of a path; None where there is none. A slash at the end makes no difference."""
    path = path.rstrip("/")
    fixed = _FIXED.get(path)
    if fixed is not None:
        return Route(fixed)
    if path.startswith(_V2):
        return _find_v2(path[len(_V2) :].split("/"))
    if path.startswith(_V1):
        name, colon, verb = path[len(_V1) :].partition(":")
        if name and "/" not in path[len(_V1) :] and verb == ("predict" if colon else ""):
            return Route("predict" if colon else "model_v1", name)
    return None


def is_probe(path: str) -> bool:
    """Whether a path is one of those that KServe and the kubelet ask whether the server lives and is ready."""
    route = find_route(path)
    return route is not None and route.operation in _PROBES


def _find_v2(parts: list[str]) -> Route | None:
    name, *rest = parts
    version = None
    if rest and rest[0] == "versions":
        if len(rest) == 1 or not rest[1]:
            return None
        version, rest = rest[1], rest[2:]
    operation = _OF_MODEL.get(rest[0] if rest else "") if len(rest) <= 1 else None
    return Route(operation, name, version) if operation is not None and name else None
