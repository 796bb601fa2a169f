"""Bringing a gated bundle into service, and going back.

The order is the point: register, dark launch, golden examples, promote, alias. Whatever fails, what served goes on serving
and the alias stays where it was; the error says both.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.deploy.local import LocalTarget
from slipway.deploy.target import Candidate, DeployTarget
from slipway.errors import BundleError, DeployError, RegistryError, SlipwayError
from slipway.export.bundle import Bundle, copy_bundle, read_bundle
from slipway.log import get_logger
from slipway.serving.record import ServedVersion, ServingRecord
from slipway.settings import Settings
from slipway.tracking.registry import CHALLENGER, CHAMPION, Lineage, ModelRegistry

_LOCK_FACTOR = 4
"""Times `timeout_seconds` that another deployment may take: it becomes ready, answers, registers, moves the alias."""

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

    Where that bundle serves already nothing is done, and MLflow is not imported. Where the registry has lost it, it is
    registered again.

    Raises:
        DeployError: it was not promoted; the message says why, and what still serves.
    """
    name, bundle_id = challenger.model_name, challenger.lineage.bundle_id
    deployer = _Deployer(target or LocalTarget(settings=settings), ModelRegistry(settings), name, policy)
    if challenger.lineage.gate != "passed":
        raise DeployError(f"The gate refused bundle {bundle_id}: {' '.join(challenger.lineage.gate_reasons)}")
    with deployer.exclusively() as serving:
        if serving is not None and serving.bundle_id == bundle_id and deployer.is_registered(serving):
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
    deployer = _Deployer(target or LocalTarget(settings=settings), ModelRegistry(settings), model_name, policy)
    with deployer.exclusively() as serving:
        if serving is None:
            raise DeployError("There is nothing to go back from.")
        if to_version == serving.version:
            return Deployment(record=serving, already_serving=True, golden_max_difference=0.0)
        previous = _find_served(serving, to_version)
        return deployer.reinstate(deployer.look_up(to_version) if previous is None else deployer.look_up_again(previous))


class _Deployer:
    """The steps of one change of what serves under one name."""

    def __init__(self, target: DeployTarget, registry: ModelRegistry, model_name: str, policy: SmokePolicy) -> None:
        self._target = target
        self._registry = registry
        self._name = model_name
        self._policy = policy

    @contextmanager
    def exclusively(self) -> Iterator[ServingRecord | None]:
        """What serves now, while no other process may change it. Errors inside say that it still does."""
        with self._target.lock(self._name, timeout_seconds=_LOCK_FACTOR * self._policy.timeout_seconds):
            serving = self._target.read_serving(self._name)
            try:
                if serving is not None and not serving.confirmed and self.is_registered(serving):
                    serving = self._confirm(serving)
                yield serving
            except SlipwayError as error:
                raise DeployError(f"{error} {_say_what_serves(self._name, serving)}") from error

    def is_registered(self, serving: ServingRecord) -> bool:
        """Whether the registry still knows what serves; its file may have been removed, or another registry be in use."""
        return self._registry.holds(self._name, serving.version, serving.bundle_id)

    def introduce(self, challenger: Challenger) -> Deployment:
        """Register the bundle as a version and let it serve."""
        source = read_bundle(challenger.bundle_dir)
        if source.info.bundle_id != challenger.lineage.bundle_id:
            raise DeployError(f"{source.root} holds bundle {source.info.bundle_id}, not the one that was evaluated.")
        version = self._registry.register_version(
            self._name, challenger.lineage, tracking_run_id=challenger.tracking_run_id, bundle_dir=challenger.bundle_dir
        )
        self._registry.set_alias(self._name, CHALLENGER, version.version)
        folder = self._target.bundle_folder(self._name, version.version, source.info.bundle_id)
        served = ServedVersion(
            version=version.version,
            bundle_id=source.info.bundle_id,
            bundle_dir=folder,
            run_id=challenger.lineage.run_id,
            dataset_id=challenger.lineage.dataset_id,
            evaluated_against=challenger.evaluated_against,
        )
        return self._launch(served, copy_bundle(challenger.bundle_dir, folder))

    def reinstate(self, served: ServedVersion) -> Deployment:
        """Let a version that served or may serve do so again; its bundle comes from the registry where it is gone here."""
        try:
            bundle = read_bundle(served.bundle_dir)
        except BundleError:
            bundle = self._registry.download_bundle(self._registry.get_version(self._name, served.version), served.bundle_dir)
        return self._launch(served, bundle)

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
        found = self._registry.get_version(self._name, version)
        if found.gate != "passed":
            raise DeployError(f"Version {version} was not let through by the gate, so it may not serve.")
        return ServedVersion(
            version=found.version,
            bundle_id=found.bundle_id,
            bundle_dir=self._target.bundle_folder(self._name, found.version, found.bundle_id),
            run_id=found.run_id,
            dataset_id=found.dataset_id,
            evaluated_against=None,
        )

    def _launch(self, served: ServedVersion, bundle: Bundle) -> Deployment:
        from slipway.deploy.smoke import check_golden_examples

        candidate = Candidate(model_name=self._name, served=served, bundle=bundle)
        timeout_seconds = self._policy.timeout_seconds
        try:
            with self._target.dark_launch(candidate, timeout_seconds=timeout_seconds) as endpoint:
                difference = check_golden_examples(
                    endpoint, bundle, tolerance=self._policy.tolerance, timeout_seconds=timeout_seconds
                )
            record = self._promote(candidate)
        except DeployError as error:
            with suppress(RegistryError):
                self._registry.set_tag(self._name, served.version, "deploy", f"failed: {error}"[:1000])
            raise
        finally:
            self._target.remove_unused(self._name)
        _log.info("promoted", model=self._name, version=served.version, golden_max_difference=difference)
        return Deployment(record=record, already_serving=False, golden_max_difference=difference)

    def _promote(self, candidate: Candidate) -> ServingRecord:
        before = self._target.read_serving(self._name)
        record = self._target.promote(candidate)
        try:
            record = self._confirm(record)
        except RegistryError as error:
            self._target.restore(self._name, before)
            raise DeployError(f"Version {record.version} was taken back, since its alias could not be moved: {error}") from error
        with suppress(RegistryError):
            self._registry.set_tag(self._name, record.version, "deploy", "promoted")
            self._drop_challenger(record.version)
        return record

    def _confirm(self, record: ServingRecord) -> ServingRecord:
        self._registry.set_alias(self._name, CHAMPION, record.version)
        return self._target.confirm(self._name)

    def _drop_challenger(self, version: str) -> None:
        challenger = self._registry.get_by_alias(self._name, CHALLENGER)
        if challenger is not None and challenger.version == version:
            self._registry.delete_alias(self._name, CHALLENGER)


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


def _say_what_serves(model_name: str, serving: ServingRecord | None) -> str:
    if serving is None:
        return f"Nothing serves as {model_name}."
    return f"Version {serving.version} of {model_name} (bundle {serving.bundle_id}) still serves."
