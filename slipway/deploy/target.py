"""The deploy target contract: where a model version serves, and how one takes another's place.

Invariants:
- `dark_launch` brings a version up beside the one that serves: it answers at its own address and gets no traffic.
- `promote` makes it the one that serves, in one step that a reader sees whole or not at all, and keeps the version before it
  as `previous`. It is called only for a version that has answered the golden examples.
- `restore` puts back what served before; whatever fails, the version that served goes on serving.
- The registry's alias moves last, after `promote`, so it never names a version that has not served; then `confirm` is called.
  A promotion that was cut off before that is found unconfirmed by the next one, which sets the alias right: what the target
  says is the truth.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway.export.bundle import Bundle
from slipway.serving.record import ServedVersion, ServingRecord


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version that is to serve."""

    model_name: str
    served: ServedVersion
    bundle: Bundle


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where one version of a model answers the Open Inference Protocol."""

    url: str
    """Scheme, host and port."""
    model_name: str
    version: str


class DeployTarget(Protocol):
    """A place where models serve. Every method raises DeployError, which says what failed."""

    def lock(self, model_name: str, *, timeout_seconds: float) -> AbstractContextManager[None]:
        """While the block runs, no other process changes what serves under this name."""

    def read_serving(self, model_name: str) -> ServingRecord | None:
        """What serves; None where nothing does."""

    def bundle_folder(self, model_name: str, version: str, bundle_id: str) -> Path:
        """Where the bundle of a version must lie for `dark_launch`."""

    def dark_launch(self, candidate: Candidate, *, timeout_seconds: float) -> AbstractContextManager[Endpoint]:
        """An endpoint that answers from the candidate, ready when the block begins and gone when it ends."""

    def promote(self, candidate: Candidate) -> ServingRecord:
        """Let the candidate serve, unconfirmed."""

    def confirm(self, model_name: str) -> ServingRecord:
        """Note that the registry's alias names what serves."""

    def restore(self, model_name: str, record: ServingRecord | None) -> None:
        """Let what `record` says serve again, unconfirmed; None takes the model out of service."""

    def remove_unused(self, model_name: str) -> None:
        """Remove the bundles of versions that neither serve nor served last; the registry has its own copies."""
