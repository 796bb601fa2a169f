"""The deploy target contract: where a model version serves, and how one takes another's place.

Invariants:
- `store_bundle` puts a bundle where the target serves it from, once: what lies there is never changed afterwards.
- `dark_launch` brings a version up beside the one that serves: it answers at its own address and gets no traffic.
- `promote` makes it the one that is to serve, in one step that a reader sees whole or not at all, and keeps the version before
  it as `previous`. It is called only for a version that has answered the golden examples. Where taking over needs time, what
  served goes on answering until the new version does, and `serving_endpoint` waits for that.
- `restore` puts back what served before; whatever fails, the version that served goes on serving.
- The registry's alias moves last, after the promoted version has answered, so it never names a version that has not served;
  then `confirm` is called. A promotion that was cut off before that is found unconfirmed by the next one, which completes it
  where the version answers and takes it back where it does not: what the target says is the truth.
- Nothing is changed but inside `lock`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway.export.bundle import Bundle
from slipway.serving.client import request_json
from slipway.serving.record import ServedVersion, ServingRecord


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version that is to serve."""

    model_name: str
    served: ServedVersion
    bundle: Bundle


class Send(Protocol):
    """Asks a predictor; see `slipway.serving.client.request_json`, which is one."""

    def __call__(self, url: str, body: bytes | None = None, *, timeout_seconds: float = ...) -> dict[str, Any]:
        """GET `url`, or POST `body` to it, and parse the answer; RequestError or ServerError where there is none."""


def _trust(_: object = None) -> None:
    """Nothing is known to be wrong."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where one version of a model answers the Open Inference Protocol."""

    url: str
    """Scheme, host and port, and what else its addresses begin with."""
    model_name: str
    version: str
    send: Send = request_json
    check_health: Callable[[], None] = _trust
    """DeployError where what answers here was restarted or is about to be."""


class DeployTarget(Protocol):
    """A place where models serve. Every method raises a SlipwayError, which says what failed."""

    def lock(self, model_name: str, *, timeout_seconds: float) -> AbstractContextManager[None]:
        """While the block runs, no other process changes what serves under this name."""

    def read_serving(self, model_name: str) -> ServingRecord | None:
        """What serves; None where nothing does."""

    def list_serving(self) -> list[ServingRecord]:
        """What serves under every name."""

    def store_bundle(self, model_name: str, version: str, bundle_dir: Path) -> str:
        """Put a version's bundle where `dark_launch` and `promote` take it from, unless it is there; its URI."""

    def read_bundle(self, served: ServedVersion, folder: Path) -> Bundle:
        """What was stored, checked; copied to `folder` (which does not exist) where it does not lie on this machine.

        Raises:
            BundleError: it was altered, or is no longer there.
        """

    def dark_launch(self, candidate: Candidate, *, timeout_seconds: float) -> AbstractContextManager[Endpoint]:
        """An endpoint that answers from the candidate, ready when the block begins and gone when it ends."""

    def promote(self, candidate: Candidate) -> ServingRecord:
        """Let the candidate serve, unconfirmed."""

    def serving_endpoint(self, record: ServingRecord, *, timeout_seconds: float) -> AbstractContextManager[Endpoint | None]:
        """Where clients ask for the version that `record` says serves, ready when the block begins.

        None where the target keeps nothing running that could be asked.

        Raises:
            DeployError: that version does not become ready; the message says why.
        """

    def confirm(self, model_name: str) -> ServingRecord:
        """Note that the registry's alias names what serves."""

    def restore(self, model_name: str, record: ServingRecord | None) -> None:
        """Let what `record` says serve again, unconfirmed; None takes the model out of service."""

    def adjust(self, model_name: str) -> None:
        """Let what serves have the number of replicas that the target was opened with, where that restarts nothing."""

    def remove_unused(self, model_name: str) -> None:
        """Remove what the target has kept of versions that neither serve nor served last; the registry has its own copies."""
