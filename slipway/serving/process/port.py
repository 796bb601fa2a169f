"""The open port. Who has connected before it closes is answered."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from slipway.serving.process.listening import BACKLOG, listen
from slipway.serving.process.tls import ServerTls

_TLS_GOODBYE_SECONDS = 1.0
"""For a client to say that it has heard that the connection ends; many never do."""
_LAST_TLS_SECONDS = 0.5
"""To agree on TLS, for those who are let in last."""
_LAST_SECONDS = 0.1
"""For what those ask who are let in last: closed unread, their connections would be reset."""


class Port:
    """Where clients connect, each of whom gets a connection of its own that `connect` makes."""

    def __init__(
        self, listener: socket.socket, connect: Callable[[], asyncio.Protocol], tls: ServerTls | None, *, tls_seconds: float
    ) -> None:
        """`listener` is bound. Clients have `tls_seconds` to agree on TLS."""
        self._listener = listener
        self._connect = connect
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls.context,
                "ssl_handshake_timeout": tls_seconds,
                "ssl_shutdown_timeout": _TLS_GOODBYE_SECONDS,
            }
        self._server: asyncio.Server

    async def open(self) -> asyncio.Server:
        """Let clients connect; raises what `listen` does."""
        listen(self._listener)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=self._listener, backlog=BACKLOG, **self._tls)
        return self._server

    async def close(self) -> None:
        """Let in those who wait for it, and nobody after them; returns when what they ask has come."""
        async with asyncio.TaskGroup() as group:
            with suppress(OSError):  # nobody waits any more, or there is no room for more
                for _ in range(BACKLOG):
                    group.create_task(self._let_in(self._listener.accept()[0]))
            self._server.close()
        await asyncio.sleep(_LAST_SECONDS)

    async def _let_in(self, connection: socket.socket) -> None:
        with suppress(OSError):  # no TLS is agreed on
            async with asyncio.timeout(_LAST_TLS_SECONDS):
                await asyncio.get_running_loop().connect_accepted_socket(self._connect, connection, **self._tls)
