"""Structured logging: one line an event, for people on a terminal or as JSON for collectors."""

import importlib
import sys
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from slipway.settings import LogFormat

if TYPE_CHECKING:
    import structlog

_importing = RLock()


def _import_structlog() -> ModuleType:
    """At first use: with asyncio, which it needs, it takes a good part of the time in which a process starts."""
    with _importing:
        if "structlog" in sys.modules:
            return importlib.import_module("structlog")  # which waits where somebody else is about to import it
        # structlog imports rich for tracebacks that it is not asked for here: a third of the predictor's imports' time.
        rich = sys.modules.get("rich")
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("structlog")
        finally:
            if rich is None:
                sys.modules.pop("rich", None)
            else:
                sys.modules["rich"] = rich


def configure_logging(log_format: LogFormat) -> None:
    """Send events to standard error; call once at the start of a process."""
    import logging

    structlog = _import_structlog()
    renderer = (
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


class _Logger:
    """Stands for structlog's logger, which is imported with the first event."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._logger is None:
            self._logger = _import_structlog().get_logger(module=self._name)
        return getattr(self._logger, attribute)


def get_logger(name: str) -> "structlog.typing.FilteringBoundLogger":
    """A logger whose events carry the module's name."""
    return cast("structlog.typing.FilteringBoundLogger", _Logger(name))
