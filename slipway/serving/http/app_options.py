"""What the application takes and says, whatever the model is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.serving.exchange import Exchange
from slipway.serving.wire.rows import RowPolicy

BeginTrace = Callable[[Exchange], None]
"""Fills in where a request stands in its trace."""
RenderMetrics = Callable[[str], tuple[bytes, str]]
"""From a request's Accept header to (figures, their media type)."""


@dataclass(frozen=True, kw_only=True)
class Guards:
    """What stands before the application, as its OpenAPI document tells it."""

    needs_token: bool = False
    needs_certificate: bool = False
    limits_rate: bool = False
    open_metrics: bool = True
    """Whether `/metrics` needs neither token nor certificate."""


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """See `slipway.serving.process.options` for where they are set."""

    max_body_bytes: int
    """Of a request, also once it is unpacked."""
    default_deadline_seconds: float | None = None
    """How long a request may take that says nothing of it; None for as long as it takes."""
    rows: RowPolicy = field(default_factory=RowPolicy)
    docs: bool = True
    """Whether the page and the OpenAPI document are served."""
    guards: Guards = field(default_factory=Guards)
    begin_trace: BeginTrace | None = None
    """Called for each request for a prediction; None where nothing is traced."""
    metrics: RenderMetrics | None = None
    """What `/metrics` answers with; None for no such path."""
