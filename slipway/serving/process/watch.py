"""All connections of a server, looked at a few times a second: what takes too long is seen then, so a request costs no timer."""

import asyncio
from typing import TYPE_CHECKING, cast

from uvicorn.server import ServerState

from slipway.serving.http.cors import Cors
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.options import ClientLimits

if TYPE_CHECKING:
    from slipway.serving.process.connection import BoundedConnection

_MOST_SECONDS_BETWEEN_LOOKS = 0.5
_LOOKS_PER_LIMIT = 4


class ConnectionWatch:
    """Holds a server's clients to their limits. Each of its connections is a `BoundedConnection`."""

    def __init__(self, limits: ClientLimits, state: ServerState, cors: Cors, refusals: Refusals) -> None:
        self.limits = limits
        self.cors = cors
        self.refusals = refusals
        """Told of requests that are refused here: the application never sees them, or sees their client go away."""
        self.receiving_bytes = 0
        """Of bodies that have begun and are not complete, on all connections."""
        self._state = state

    async def run(self) -> None:
        """Look at all connections until cancelled."""
        limits = self.limits
        shortest = min(limits.head_seconds, limits.body_seconds, limits.answer_seconds)
        pause = min(shortest / _LOOKS_PER_LIMIT, _MOST_SECONDS_BETWEEN_LOOKS)
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(pause)
            for connection in self._list_connections():
                connection.check(now(), pause)

    def make_room(self, newcomer: "BoundedConnection") -> bool:
        """Cut the connection that has rested longest, other than the newcomer; False where each one has a request."""
        resting = [one for one in self._list_connections() if one.is_resting and one is not newcomer]
        if resting:
            min(resting, key=lambda one: one.since).cut()
        return bool(resting)

    def cut_all(self) -> None:
        """End every connection, whatever it is at."""
        for connection in self._list_connections():
            connection.cut()

    def _list_connections(self) -> "list[BoundedConnection]":
        return cast("list[BoundedConnection]", list(self._state.connections))
