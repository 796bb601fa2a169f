"""The evaluate stage: the bundle on the frozen test split, the gate, the version in the registry."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.config import Config
from slipway.deploy.targets import find_serving
from slipway.export.bundle import read_info
from slipway.overrides import config_from_parameters
from slipway.provenance import hash_sources, package_versions
from slipway.settings import Settings
from slipway.stages.cache import Facts, Workplace
from slipway.stages.champion import ChampionReference, fetch_champion, find_champion
from slipway.stages.runner import stage_session
from slipway.stages.tracking import close_runs, join_candidate, read_training, resolve_model_name, track_training
from slipway.storage.files import write_text
from slipway.training.job import HISTORY_NAME

if TYPE_CHECKING:
    from slipway.evaluation.comparison import EvaluationResult
    from slipway.tracking.registry import Lineage, ModelVersion


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the component hands to KFP."""

    decision: str
    """`passed` or `refused`."""
    model_version: str
    metrics: dict[str, float]
    class_names: list[str]
    confusion_matrix: list[list[int]]
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is judged, beside what, by which rules."""

    config: Config
    model_name: str
    dataset: Path
    bundle: Path
    training: Path
    champion: ChampionReference
    serving_bundle_id: str
    """"" where nothing serves."""


def run_evaluate(
    parameters: Mapping[str, Any], dataset: str, bundle: str, training: str, evaluation: str, report: str, summary: str
) -> Outcome:
    """Judge the bundle, register it with the decision, and write report, figures and predictions.

    Raises:
        BundleError: the bundle, or the champion's, cannot be used.
        RegistryError: the version cannot be registered.
    """
    config = config_from_parameters(parameters)
    with stage_session("evaluate") as session:
        model_name = resolve_model_name(config)
        bundle_id = read_info(Path(bundle)).bundle_id
        serving = find_serving(session.settings, config.deploy, model_name)
        champion = find_champion(session.settings, serving, model_name, bundle_id)
        case = _Case(
            config=config,
            model_name=model_name,
            dataset=Path(dataset),
            bundle=Path(bundle),
            training=Path(training),
            champion=champion,
            serving_bundle_id=serving.bundle_id if serving is not None else "",
        )
        key = {
            "bundle_id": bundle_id,
            "dataset_id": json.loads((Path(dataset) / "manifest.json").read_text())["dataset_id"],
            "champion": champion.bundle_id,
            "policy": asdict(config.gate),
            "model_name": model_name,
            "registry": session.settings.mlflow_tracking_uri,
            "code": hash_sources(),
            "packages": package_versions("matplotlib", "numpy", "onnxruntime", "openvino", "scikit-learn", "scipy"),
        }
        outputs = {"evaluation": Path(evaluation), "report.html": Path(report), "summary.md": Path(summary)}
        facts = session.produce(
            key,
            outputs,
            lambda place: _evaluate(case, place, session.settings),
            is_current=lambda facts: _is_registered(session.settings, model_name, facts["model_version"], bundle_id),
        )
        readable = session.run_dir / "report.html"
        write_text(readable, Path(report).read_text())
        session.facts = {**facts, "report": str(readable)}
    return Outcome(
        decision=facts["decision"],
        model_version=facts["model_version"],
        metrics=facts["metrics"],
        class_names=facts["class_names"],
        confusion_matrix=facts["confusion_matrix"],
        metadata={name: facts[name] for name in ("decision", "reasons", "model_name", "model_version", "champion")},
    )


def _is_registered(settings: Settings, model_name: str, version: str, bundle_id: str) -> bool:
    """Whether the registry still holds the version that an earlier evaluation registered: its file may have been removed."""
    from slipway.tracking.registry import ModelRegistry

    return ModelRegistry(settings).holds(model_name, version, bundle_id)


def _evaluate(case: _Case, place: Workplace, settings: Settings) -> Facts:
    from slipway.evaluation.comparison import evaluate_challenger

    champion_dir = fetch_champion(settings, case.model_name, case.champion, place.work_dir / "champion")
    history = json.loads((case.training / HISTORY_NAME).read_text())["epochs"]
    output = place.outputs["evaluation"]
    result = evaluate_challenger(
        bundle_dir=case.bundle,
        champion_bundle_dir=champion_dir,
        dataset_dir=case.dataset,
        policy=case.config.gate,
        output_dir=output,
        history=history,
        model_name=case.model_name,
        lineage={"run": settings.run_id, "source": case.config.data.source},
    )
    lineage = _describe(case, result, settings)
    version = _register(case, result, lineage, output, settings)
    shutil.copyfile(result.report_html, place.outputs["report.html"])
    shutil.copyfile(result.report_markdown, place.outputs["summary.md"])
    return {
        "decision": lineage.gate,
        "passed": result.decision.passed,
        "reasons": list(lineage.gate_reasons),
        "refusals": [reason.message for reason in result.decision.reasons if not reason.passed],
        "metrics": result.metrics,
        "champion_metrics": result.champion_metrics,
        "champion": case.champion.bundle_id,
        "model_name": case.model_name,
        "model_version": version.version,
        "class_names": result.class_names,
        "confusion_matrix": result.confusion_matrix,
    }


def _describe(case: _Case, result: "EvaluationResult", settings: Settings) -> "Lineage":
    from slipway.tracking.registry import Lineage

    info = read_info(case.bundle)
    return Lineage(
        bundle_id=info.bundle_id,
        dataset_id=info.dataset_id,
        code_version=info.code_version,
        run_id=settings.run_id,
        ir_hash=settings.ir_hash,
        gate="passed" if result.decision.passed else "refused",
        gate_reasons=tuple(reason.message for reason in sorted(result.decision.reasons, key=lambda reason: reason.passed)),
    )


def _register(case: _Case, result: "EvaluationResult", lineage: "Lineage", output: Path, settings: Settings) -> "ModelVersion":
    """Register the version whatever was decided, so that `slipway models` also says why one was refused."""
    from slipway.deploy.bundles import publish_bundle
    from slipway.stages.verdict import Verdict, write_verdict
    from slipway.tracking.registry import CHALLENGER, ModelRegistry

    joined = join_candidate(settings, case.config, read_training(case.training).training_key)
    tracker, candidate, parent = joined.tracker, joined.run, joined.parent
    track_training(joined, case.training)
    tracker.log_metrics(candidate, result.metrics, shown_by_kfp=result.metrics)
    tracker.log_artifacts(candidate, output, "evaluation")
    tracker.set_tags(candidate, {"slipway.gate": lineage.gate})
    tracker.log_metrics(parent, result.metrics, shown_by_kfp=result.metrics)
    tracker.set_tags(parent, {"slipway.gate": lineage.gate, "slipway.dataset_id": lineage.dataset_id})
    registry = ModelRegistry(settings)
    version = registry.register_version(
        case.model_name,
        lineage,
        tracking_run_id=candidate.run_id,
        bundle_dir=case.bundle,
        source_uri=publish_bundle(settings, case.model_name, case.bundle),
    )
    if case.serving_bundle_id != lineage.bundle_id:
        registry.set_alias(case.model_name, CHALLENGER, version.version)
    verdict = Verdict(
        model_name=case.model_name,
        model_version=version.version,
        champion=case.champion.bundle_id,
        tracking_run_id=candidate.run_id,
        lineage=lineage,
    )
    write_verdict(output, verdict)
    joined.finish("FINISHED")
    if lineage.gate == "refused":
        close_runs(settings, "FINISHED")
    return version
