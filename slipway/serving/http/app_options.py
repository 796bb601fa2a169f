"""What the application takes and says, whatever the model is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.serving.exchange import Exchange
from slipway.serving.wire.rows import RowPolicy

MAX_BODY_BYTES = 32 * 1024 * 1024
BeginTrace = Callable[[Exchange], None]
"""Fills in where a request stands in its trace."""
RenderMetrics = Callable[[str], tuple[bytes, str]]
"""From a request's Accept header to (figures, their media type)."""


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """See `slipway.serving.process.options` for where they are set."""

    max_body_bytes: int = MAX_BODY_BYTES
    """Of a request, also once it is unpacked."""
    default_deadline_seconds: float | None = None
    """How long a request may take that says nothing of it; None for as long as it takes."""
    rows: RowPolicy = field(default_factory=RowPolicy)
    cors_origins: tuple[str, ...] = ()
    """Origins (`https://example.org`) whose pages may read the answers; "*" for all."""
    docs: bool = True
    """Whether the page and the OpenAPI document are served."""
    begin_trace: BeginTrace | None = None
    """Called for each request for a prediction; None where nothing is traced."""
    metrics: RenderMetrics | None = None
    """What `/metrics` answers with; None for no such path."""
