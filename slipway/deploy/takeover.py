"""One version takes another's place: tried out beside it, promoted, asked again, confirmed by the alias, or taken back whole."""

import tempfile
from contextlib import suppress
from pathlib import Path

from slipway.deploy.policy import SmokePolicy
from slipway.deploy.slo import watch_slo
from slipway.deploy.target import Candidate, DeployTarget, Endpoint
from slipway.deploy.versions import is_registered
from slipway.errors import DeployError, RegistryError, SlipwayError
from slipway.export.bundle import Bundle
from slipway.log import get_logger
from slipway.serving.record import ServingRecord, succeed
from slipway.tracking.registry import CHALLENGER, CHAMPION, ModelRegistry

_log = get_logger(__name__)


class Takeover:
    """The steps that change what serves under one name. They run inside the target's lock."""

    def __init__(self, target: DeployTarget, registry: ModelRegistry, model_name: str, policy: SmokePolicy) -> None:
        self._target = target
        self._registry = registry
        self._name = model_name
        self._policy = policy

    def try_out(self, candidate: Candidate) -> float:
        """Ask the candidate its golden examples where nobody else asks it; the largest difference of a float.

        Raises:
            DeployError: it does not come up, or does not answer as it should.
        """
        with self._target.dark_launch(candidate, timeout_seconds=self._policy.timeout_seconds) as endpoint:
            return self._ask_golden_examples(endpoint, candidate.bundle)

    def promote(self, candidate: Candidate) -> ServingRecord:
        """Let the candidate serve; what served comes back if it does not do so well, or if this process is told to end."""
        before = self._target.read_serving(self._name)
        try:
            record = self._target.promote(candidate)
            self._watch(record, candidate.bundle)
            record = self._confirm(record)
        except SlipwayError as error:
            raise self._take_back(candidate.served.version, before, error) from error
        except BaseException:  # told to end
            self._target.restore(self._name, before)
            with suppress(RegistryError):
                self._put_alias_back(before, candidate.served.version)
            raise
        with suppress(RegistryError):
            self._registry.set_tag(self._name, record.version, "deploy", "promoted")
            self._drop_challenger(record.version)
        return record

    def settle(self, serving: ServingRecord) -> ServingRecord | None:
        """End a promotion that was cut off: completed where the version answers, else taken back. What serves then."""
        try:
            with tempfile.TemporaryDirectory(prefix="slipway-settle-") as folder:
                self._watch_briefly(serving, Path(folder) / "bundle")
        except DeployError as error:
            _log.warning("taking back a promotion that was cut off", model=self._name, version=serving.version, error=str(error))
            self._target.restore(self._name, _revive(serving))
            serving_now = self._target.read_serving(self._name)
            return (
                serving_now
                if serving_now is None or not is_registered(self._registry, serving_now)
                else self._confirm(serving_now)
            )
        return self._confirm(serving) if is_registered(self._registry, serving) else serving

    def _take_back(self, version: str, before: ServingRecord | None, cause: SlipwayError) -> DeployError:
        why = f", since its alias could not be moved: {cause}" if isinstance(cause, RegistryError) else f": {cause}"
        try:
            self._target.restore(self._name, before)
        except SlipwayError as error:
            return DeployError(f"Version {version} should have been taken back{why} But that failed too: {error}")
        try:
            self._put_alias_back(before, version)
        except SlipwayError as error:
            remedy = f"set it to version {before.version}" if before is not None else "remove it"
            return DeployError(
                f"Version {version} was taken back{why} The alias {CHAMPION} could not be put back, and may still name version "
                f"{version}: {error} Once the registry answers, {remedy}."
            )
        return DeployError(f"Version {version} was taken back{why}")

    def _put_alias_back(self, before: ServingRecord | None, version: str) -> None:
        """See that the alias names what was restored, not `version`: the registry may have moved it although its answer was lost.

        Where the registry has lost what was restored, no version is the champion.
        """
        champion = self._registry.get_champion(self._name)
        if champion is None or (before is not None and champion.version == before.version):
            return
        if before is not None and is_registered(self._registry, before):
            self._registry.set_alias(self._name, CHAMPION, before.version)
        elif before is None or champion.version == version:
            self._registry.delete_alias(self._name, CHAMPION)

    def _watch(self, record: ServingRecord, bundle: Bundle) -> None:
        """See that the version answers where clients ask, and goes on doing so for as long as the policy says."""
        with self._target.serving_endpoint(record, timeout_seconds=self._policy.timeout_seconds) as endpoint:
            if endpoint is None:
                return
            self._ask_golden_examples(endpoint, bundle)
            if self._policy.slo is not None:
                watch_slo(endpoint, bundle, self._policy.slo, tolerance=self._policy.tolerance)

    def _watch_briefly(self, serving: ServingRecord, folder: Path) -> None:
        with self._target.serving_endpoint(serving, timeout_seconds=self._policy.timeout_seconds) as endpoint:
            if endpoint is not None:
                self._ask_golden_examples(endpoint, self._target.read_bundle(serving, folder))

    def _ask_golden_examples(self, endpoint: Endpoint, bundle: Bundle) -> float:
        from slipway.deploy.smoke import check_golden_examples

        policy = self._policy
        return check_golden_examples(endpoint, bundle, tolerance=policy.tolerance, timeout_seconds=policy.timeout_seconds)

    def _confirm(self, record: ServingRecord) -> ServingRecord:
        self._registry.set_alias(self._name, CHAMPION, record.version)
        return self._target.confirm(self._name)

    def _drop_challenger(self, version: str) -> None:
        challenger = self._registry.get_by_alias(self._name, CHALLENGER)
        if challenger is not None and challenger.version == version:
            self._registry.delete_alias(self._name, CHALLENGER)


def _revive(serving: ServingRecord) -> ServingRecord | None:
    """The record of what served before `serving`, which is to be taken back."""
    return None if serving.previous is None else succeed(None, serving.previous, model_name=serving.model_name)
