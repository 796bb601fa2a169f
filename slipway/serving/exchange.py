"""One request on its way through the predictor, as everything that looks at it sees it: metrics, logs, traces, payload log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from slipway.serving.inference.model import LoadedModel

MAX_DEADLINE_SECONDS = 86_400
"""That a client may state."""
Wire = Literal["v1", "v2", "v2-binary", "image", "grpc"]
"""The form that a request came in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracePlace:
    """Where a request stands in a trace (W3C Trace Context)."""

    trace_id: int
    span_id: int
    """Of the request itself."""
    parent_id: int | None
    """Of the client's span; None where the trace begins here."""
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """The header that says so."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.is_sampled:02x}"


@dataclass(kw_only=True)
class Exchange:
    """Who asks, and how long what has taken; filled in as the request goes."""

    request_id: str
    """Of the client where it gives one; it stands in the answer."""
    wire: Wire
    received_at: float
    """`time.perf_counter()` when the request's head was there."""
    deadline: float | None = None
    """`time.perf_counter()` after which nobody waits for the answer; None for no such time."""
    is_deadline_stated: bool = False
    """Whether it is the client's own; else it is what the server allows a request that states none."""
    num_samples: int = 0
    decode_seconds: float = 0.0
    """From a body to arrays."""
    decoded_at: float = 0.0
    """`time.perf_counter()` when the arrays were there."""
    queue_seconds: float = 0.0
    """From arrays to the beginning of the inference that they were part of."""
    inference_seconds: float = 0.0
    """Of the whole batch."""
    batch_size: int = 0
    """Samples that were inferred together."""
    status: int = 0
    """Of HTTP; gRPC's codes are given as their HTTP counterparts."""
    traceparent: str = ""
    """W3C trace context of the client; "" for none."""
    trace: TracePlace | None = None
    """None where nothing is traced."""

    def begin_deadline(self, default_seconds: float | None, stated_seconds: float | None) -> None:
        """Take in that the client waits for `stated_seconds`, as the request's head says, or else for what the server allows."""
        if stated_seconds is not None:
            self.limit_to(stated_seconds)
        elif default_seconds is not None:
            self.deadline = self.received_at + default_seconds

    def limit_to(self, seconds: float) -> None:
        """Take in that the client waits for so long. It may state that in several places: the shortest time counts."""
        deadline = self.received_at + seconds
        if self.deadline is None or not self.is_deadline_stated or deadline < self.deadline:
            self.deadline = deadline
        self.is_deadline_stated = True


class Observer(Protocol):
    """Something that wants to know of finished exchanges."""

    def observe(
        self,
        exchange: Exchange,
        model: "LoadedModel",
        inputs: Mapping[str, NDArray[Any]] | None,
        outputs: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """Called on the event loop once the answer is on its way: must neither block nor raise.

        `inputs` and `outputs` are None where the request was refused or failed. Samples that do not go together, such as images
        of several sizes, are an object array of arrays.
        """
