"""Structured logging: one line an event, for people on a terminal or as JSON for collectors."""

import importlib
import logging
import sys
from typing import TYPE_CHECKING

from slipway.settings import LogFormat

if TYPE_CHECKING:
    import structlog
else:
    # structlog imports rich for tracebacks that it is not asked for here: a third of the time that the predictor's imports take.
    _rich = sys.modules.get("rich")
    sys.modules["rich"] = None
    try:
        structlog = importlib.import_module("structlog")
    finally:
        if _rich is None:
            del sys.modules["rich"]
        else:
            sys.modules["rich"] = _rich


def configure_logging(log_format: LogFormat) -> None:
    """Send events to standard error; call once at the start of a process."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry the module's name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
