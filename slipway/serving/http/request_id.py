"""What a request is called: as its client does where that can stand in a header, else by a new name. Each answer says it."""

import re
import secrets
from collections.abc import MutableMapping
from typing import Any

_ACCEPTED = re.compile(r"[\x21-\x7e]{1,128}\Z")


def choose_request_id(*given: str | None) -> str:
    """The first id of a client's that can stand in a header, else a new one."""
    for request_id in given:
        if request_id and _ACCEPTED.match(request_id):
            return request_id
    return secrets.token_hex(8)


def choose_stated_id(stated: set[str]) -> str:
    """The id that a request's head states. One that states several gets a new one."""
    return choose_request_id(stated.pop() if len(stated) == 1 else None)


def request_id_of(scope: MutableMapping[str, Any]) -> str:
    """The id of an ASGI request by its head, the same for whoever asks."""
    state = scope.setdefault("state", {})
    request_id: str | None = state.get("request_id")
    if request_id is None:
        values = {value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"x-request-id"}
        state["request_id"] = request_id = choose_stated_id(values)
    return request_id
