"""Bringing a gated bundle into service, and going back.

The order is the point: register, dark launch, golden examples, promote, golden examples again, SLO, alias. Whatever fails, what
served goes on serving and the alias stays where it was; the error says both.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.config import DeployConfig
from slipway.deploy.bundles import publish_bundle
from slipway.deploy.duration import lock_seconds
from slipway.deploy.slo import SloPolicy, watch_slo
from slipway.deploy.target import Candidate, DeployTarget, Endpoint
from slipway.deploy.targets import open_target
from slipway.deploy.versions import find_servable, obtain_bundle
from slipway.errors import DeployError, RegistryError, SlipwayError
from slipway.export.bundle import Bundle, read_bundle
from slipway.log import get_logger
from slipway.serving.record import ServedVersion, ServingRecord, succeed
from slipway.settings import Settings
from slipway.tracking.registry import CHALLENGER, CHAMPION, Lineage, ModelRegistry

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """A bundle that the gate let through."""

    model_name: str
    bundle_dir: Path
    lineage: Lineage
    evaluated_against: str | None
    """Id of the bundle that the gate compared it with; None where nothing served."""
    tracking_run_id: str
    """MLflow's run of the candidate, which keeps the bundle."""


@dataclass(frozen=True, kw_only=True)
class SmokePolicy:
    """What the endpoint must show before it is promoted; see `DeployConfig`."""

    tolerance: float
    timeout_seconds: float
    slo: SloPolicy | None = None
    """What it must show once it serves, where the target can ask it then."""

    @classmethod
    def of(cls, config: DeployConfig) -> "SmokePolicy":
        """What the settings say."""
        return cls(tolerance=config.smoke_tolerance, timeout_seconds=config.timeout_seconds, slo=SloPolicy.of(config))

    @property
    def lock_seconds(self) -> float:
        """How long a deployment may wait for another one."""
        return lock_seconds(self.timeout_seconds, self.slo.seconds if self.slo else 0.0)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What serves after a deployment or a rollback."""

    record: ServingRecord
    already_serving: bool
    """Nothing was done: that bundle served already."""
    golden_max_difference: float
    """Largest difference of the golden examples' answers from what was expected; 0 where nothing was done."""


def deploy_challenger(
    settings: Settings, challenger: Challenger, policy: SmokePolicy, target: DeployTarget | None = None
) -> Deployment:
    """Register a bundle and let it serve, once it has answered the golden examples.

    Where that bundle serves already no pod is replaced, only their number follows the settings, and MLflow is not imported. Where
    the registry has lost it, it is registered again.

    Raises:
        DeployError: it was not promoted; the message says why, and what still serves.
    """
    name, bundle_id = challenger.model_name, challenger.lineage.bundle_id
    deployer = _Deployer(settings, target or open_target(settings), name, policy)
    if challenger.lineage.gate != "passed":
        raise DeployError(f"The gate refused bundle {bundle_id}: {' '.join(challenger.lineage.gate_reasons)}")
    with deployer.exclusively() as serving:
        if serving is not None and serving.bundle_id == bundle_id and deployer.is_registered(serving):
            deployer.adjust()
            return Deployment(record=serving, already_serving=True, golden_max_difference=0.0)
        if serving is None or serving.bundle_id != bundle_id:
            _check_opponent(challenger, serving)
        return deployer.introduce(challenger)


def roll_back(
    settings: Settings, model_name: str, policy: SmokePolicy, *, to_version: str = "", target: DeployTarget | None = None
) -> Deployment:
    """Let the version that served before serve again, or `to_version`; it too must answer its golden examples first.

    What served until now becomes `previous`, so a second rollback without `to_version` undoes the first.

    Raises:
        DeployError: there is nothing to go back to, or it does not answer; the message says what still serves.
    """
    deployer = _Deployer(settings, target or open_target(settings), model_name, policy)
    with deployer.exclusively() as serving:
        if serving is None:
            raise DeployError("There is nothing to go back from.")
        if to_version == serving.version:
            return Deployment(record=serving, already_serving=True, golden_max_difference=0.0)
        previous = _find_served(serving, to_version)
        return deployer.reinstate(deployer.look_up(to_version) if previous is None else deployer.look_up_again(previous))


class _Deployer:
    """The steps of one change of what serves under one name."""

    def __init__(self, settings: Settings, target: DeployTarget, model_name: str, policy: SmokePolicy) -> None:
        self._settings = settings
        self._target = target
        self._registry = ModelRegistry(settings)
        self._name = model_name
        self._policy = policy

    @contextmanager
    def exclusively(self) -> Iterator[ServingRecord | None]:
        """What serves now, while no other process may change it. Errors inside say what serves after them."""
        with self._target.lock(self._name, timeout_seconds=self._policy.lock_seconds):
            serving = self._target.read_serving(self._name)
            try:
                if serving is not None and not serving.confirmed:
                    serving = self._settle(serving)
                yield serving
            except SlipwayError as error:
                raise DeployError(f"{error} {self._say_what_serves(serving)}") from error

    def is_registered(self, serving: ServingRecord) -> bool:
        """Whether the registry still knows what serves; its file may have been removed, or another registry be in use."""
        return self._registry.holds(self._name, serving.version, serving.bundle_id)

    def adjust(self) -> None:
        """Let what serves have as many replicas as it should now."""
        self._target.adjust(self._name)

    def introduce(self, challenger: Challenger) -> Deployment:
        """Register the bundle as a version and let it serve."""
        source = read_bundle(challenger.bundle_dir)
        lineage = challenger.lineage
        if source.info.bundle_id != lineage.bundle_id:
            raise DeployError(f"{source.root} holds bundle {source.info.bundle_id}, not the one that was evaluated.")
        version = self._registry.register_version(
            self._name,
            lineage,
            tracking_run_id=challenger.tracking_run_id,
            bundle_dir=challenger.bundle_dir,
            source_uri=publish_bundle(self._settings, self._name, challenger.bundle_dir),
        ).version
        self._registry.set_alias(self._name, CHALLENGER, version)
        served = ServedVersion(
            version=version,
            bundle_id=lineage.bundle_id,
            bundle_uri=self._target.store_bundle(self._name, version, challenger.bundle_dir),
            run_id=lineage.run_id,
            dataset_id=lineage.dataset_id,
            code_version=lineage.code_version,
            ir_hash=lineage.ir_hash,
            evaluated_against=challenger.evaluated_against,
        )
        return self._launch(served, source)

    def reinstate(self, served: ServedVersion) -> Deployment:
        """Let a version that served or may serve do so again; its bundle comes from the registry where the target has lost it."""
        with tempfile.TemporaryDirectory(prefix="slipway-rollback-") as folder:
            return self._launch(*obtain_bundle(self._target, self._registry, self._name, served, Path(folder)))

    def look_up_again(self, served: ServedVersion) -> ServedVersion:
        """A version that served before, under the number that the registry knows it by now."""
        found = self._registry.find_bundle(self._name, served.bundle_id)
        if found is None:
            raise DeployError(
                f"Version {served.version} (bundle {served.bundle_id}) served before, but the registry no longer holds it. "
                "Name one of `slipway models` with --to."
            )
        return replace(served, version=found.version)

    def look_up(self, version: str) -> ServedVersion:
        """A version of the registry that the gate let through."""
        if not version:
            raise DeployError("There is no previous version to go back to; name one of `slipway models` with --to.")
        return find_servable(self._registry, self._name, version)

    def _launch(self, served: ServedVersion, bundle: Bundle) -> Deployment:
        candidate = Candidate(model_name=self._name, served=served, bundle=bundle)
        try:
            with self._target.dark_launch(candidate, timeout_seconds=self._policy.timeout_seconds) as endpoint:
                difference = self._ask_golden_examples(endpoint, bundle)
            record = self._promote(candidate)
        except SlipwayError as error:
            with suppress(RegistryError):
                self._registry.set_tag(self._name, served.version, "deploy", f"failed: {error}"[:1000])
            raise
        finally:
            self._target.remove_unused(self._name)
        _log.info("promoted", model=self._name, version=served.version, golden_max_difference=difference)
        return Deployment(record=record, already_serving=False, golden_max_difference=difference)

    def _promote(self, candidate: Candidate) -> ServingRecord:
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
        if before is not None and self.is_registered(before):
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

    def _settle(self, serving: ServingRecord) -> ServingRecord | None:
        """End a promotion that was cut off: completed where the version answers, else taken back."""
        try:
            with tempfile.TemporaryDirectory(prefix="slipway-settle-") as folder:
                self._watch_briefly(serving, Path(folder) / "bundle")
        except DeployError as error:
            _log.warning("taking back a promotion that was cut off", model=self._name, version=serving.version, error=str(error))
            self._target.restore(self._name, _revive(serving))
            serving_now = self._target.read_serving(self._name)
            return serving_now if serving_now is None or not self.is_registered(serving_now) else self._confirm(serving_now)
        return self._confirm(serving) if self.is_registered(serving) else serving

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

    def _say_what_serves(self, before: ServingRecord | None) -> str:
        """What serves, as far as it can be said after an error that may have come from asking."""
        try:
            now = self._target.read_serving(self._name)
        except SlipwayError:
            now = before
        if now is None:
            return f"Nothing serves as {self._name}."
        still = "still " if before is not None and now.bundle_id == before.bundle_id else "now "
        return f"Version {now.version} of {self._name} (bundle {now.bundle_id}) {still}serves."


def _revive(serving: ServingRecord) -> ServingRecord | None:
    """The record of what served before `serving`, which is to be taken back."""
    return None if serving.previous is None else succeed(None, serving.previous, model_name=serving.model_name)


def _check_opponent(challenger: Challenger, serving: ServingRecord | None) -> None:
    """A decision holds for the champion that it was made against, not for one that came to serve since."""
    if serving is not None and serving.bundle_id != challenger.evaluated_against:
        raise DeployError(
            f"The gate compared bundle {challenger.lineage.bundle_id} with {challenger.evaluated_against or 'nothing'}, "
            f"but now {serving.bundle_id} serves. Run the pipeline again to compare it with that."
        )


def _find_served(serving: ServingRecord, version: str) -> ServedVersion | None:
    previous = serving.previous
    return previous if previous is not None and version in ("", previous.version) else None
