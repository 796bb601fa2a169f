"""What stands before the application, in its OpenAPI document: how a client shows who it is, and how it is turned away."""

from typing import Any

from slipway.serving.http.app_options import Guards
from slipway.serving.http.openapi_schemas import error_answer
from slipway.serving.http.routes import is_probe

_TOKEN: dict[str, Any] = {"token": {"type": "http", "scheme": "bearer"}}
_CERTIFICATE: dict[str, Any] = {"certificate": {"type": "mutualTLS"}}


def describe_security(guards: Guards) -> dict[str, Any]:
    """The document's `components` and `security`; nothing where everybody may ask."""
    schemes = (_TOKEN if guards.needs_token else {}) | (_CERTIFICATE if guards.needs_certificate else {})
    return {"components": {"securitySchemes": schemes}, "security": [{name: [] for name in schemes}]} if schemes else {}


def add_refusals(operation: dict[str, Any], path: str, model_name: str, guards: Guards) -> None:
    """Add to an operation's responses those that it has because of where it stands, and say where it needs no token."""
    responses: dict[str, Any] = operation["responses"]
    if f"/models/{model_name}" in path:
        responses["404"] = error_answer("Another model or version is served by now.")
    is_open = is_probe(path) or (guards.open_metrics and path == "/metrics")
    if is_open and (guards.needs_token or guards.needs_certificate):
        operation["security"] = []
    if guards.needs_token and not is_open:
        responses["401"] = error_answer("The request shows no token that is accepted.")
    if guards.needs_certificate and not is_open:
        responses["403"] = error_answer("The client shows no certificate.")
    if is_probe(path):
        return
    if guards.limits_rate:
        responses["429"] = error_answer("The client's address asks too often; Retry-After says when to ask again.")
    responses.setdefault(
        "503", error_answer("The server has as many connections as it takes; Retry-After says when to ask again.")
    )
