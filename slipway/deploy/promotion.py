"""Bringing a gated bundle into service, and going back.

The order is the point: register, dark launch, golden examples, promote, golden examples again, SLO, alias. Whatever fails, what
served goes on serving and the alias stays where it was; the error says both.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slipway.deploy.bundles import publish_bundle
from slipway.deploy.policy import SmokePolicy
from slipway.deploy.takeover import Takeover
from slipway.deploy.target import Candidate, DeployTarget
from slipway.deploy.targets import open_target
from slipway.deploy.versions import find_way_back, is_registered, obtain_bundle
from slipway.errors import DeployError, RegistryError, SlipwayError
from slipway.export.bundle import Bundle, read_bundle
from slipway.log import get_logger
from slipway.serving.record import ServedVersion, ServingRecord
from slipway.settings import Settings
from slipway.tracking.registry import CHALLENGER, Lineage, ModelRegistry

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
        if serving is not None and serving.bundle_id == bundle_id and is_registered(deployer.registry, serving):
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
        return deployer.reinstate(find_way_back(deployer.registry, serving, to_version))


class _Deployer:
    """The steps of one change of what serves under one name."""

    def __init__(self, settings: Settings, target: DeployTarget, model_name: str, policy: SmokePolicy) -> None:
        self._settings = settings
        self._target = target
        self.registry = ModelRegistry(settings)
        self._name = model_name
        self._policy = policy
        self._takeover = Takeover(target, self.registry, model_name, policy)

    @contextmanager
    def exclusively(self) -> Iterator[ServingRecord | None]:
        """What serves now, while no other process may change it. Errors inside say what serves after them."""
        with self._target.lock(self._name, timeout_seconds=self._policy.lock_seconds):
            serving = self._target.read_serving(self._name)
            try:
                if serving is not None and not serving.confirmed:
                    serving = self._takeover.settle(serving)
                yield serving
            except SlipwayError as error:
                raise DeployError(f"{error} {self._say_what_serves(serving)}") from error

    def adjust(self) -> None:
        """Let what serves have as many replicas as it should now."""
        self._target.adjust(self._name)

    def introduce(self, challenger: Challenger) -> Deployment:
        """Register the bundle as a version and let it serve."""
        source = read_bundle(challenger.bundle_dir)
        lineage = challenger.lineage
        if source.info.bundle_id != lineage.bundle_id:
            raise DeployError(f"{source.root} holds bundle {source.info.bundle_id}, not the one that was evaluated.")
        version = self.registry.register_version(
            self._name,
            lineage,
            tracking_run_id=challenger.tracking_run_id,
            bundle_dir=challenger.bundle_dir,
            source_uri=publish_bundle(self._settings, self._name, challenger.bundle_dir),
        ).version
        self.registry.set_alias(self._name, CHALLENGER, version)
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
            return self._launch(*obtain_bundle(self._target, self.registry, self._name, served, Path(folder)))

    def _launch(self, served: ServedVersion, bundle: Bundle) -> Deployment:
        candidate = Candidate(model_name=self._name, served=served, bundle=bundle)
        try:
            difference = self._takeover.try_out(candidate)
            record = self._takeover.promote(candidate)
        except SlipwayError as error:
            with suppress(RegistryError):
                self.registry.set_tag(self._name, served.version, "deploy", f"failed: {error}"[:1000])
            raise
        finally:
            self._target.remove_unused(self._name)
        _log.info("promoted", model=self._name, version=served.version, golden_max_difference=difference)
        return Deployment(record=record, already_serving=False, golden_max_difference=difference)

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


def _check_opponent(challenger: Challenger, serving: ServingRecord | None) -> None:
    """A decision holds for the champion that it was made against, not for one that came to serve since."""
    if serving is not None and serving.bundle_id != challenger.evaluated_against:
        raise DeployError(
            f"The gate compared bundle {challenger.lineage.bundle_id} with {challenger.evaluated_against or 'nothing'}, "
            f"but now {serving.bundle_id} serves. Run the pipeline again to compare it with that."
        )
