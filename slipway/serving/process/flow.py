"""When a connection is read from."""

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl


class OrderlyFlow(FlowControl):
    """uvicorn's, which does not go on reading while requests that have come wait for the answers to earlier ones.

    Else each answer would let in as many further requests as one reading holds: thousands.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        """`waiting` are the requests that wait."""
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Called with each answer, and by an application that waits for more of a request."""
        if not self._waiting:
            super().resume_reading()
