"""What uvicorn has to say of failures, as our own events."""

import asyncio
import logging

from slipway.log import get_logger

_log = get_logger(__name__)


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return  # what was cut off in the end: told by "grace_is_over"
        _log.log(record.levelno, "server_failed", told=record.getMessage().strip(), exc_info=error)


def tell_uvicorns_complaints() -> None:
    """Log warnings and worse of uvicorn's as `server_failed`, and nothing else of it."""
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.handlers = [_Complaints()]
