"""The whole evaluation of a challenger: measure, compare with the champion, decide, report."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.config import GateConfig
from slipway.data.dataset import Dataset
from slipway.errors import EvaluationError
from slipway.evaluation.decision import Decision
from slipway.evaluation.gate import decide
from slipway.evaluation.history import History, draw_history
from slipway.evaluation.measurement import (
    SPLIT,
    Evaluation,
    can_answer,
    draw_plots,
    evaluate_bundle,
    find_worst,
    to_gate_input,
    to_unanswered_input,
)
from slipway.evaluation.report import ReportContent, render_html, render_markdown
from slipway.export.bundle import Bundle, read_bundle
from slipway.storage.files import staged_directory, write_bytes, write_json, write_text
from slipway.tasks.registry import load_task
from slipway.tasks.task import Breakdown, ConfusionMatrix, RocCurve

DECISION_NAME = "decision.json"
METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.parquet"
REPORT_HTML_NAME = "report.html"
REPORT_MARKDOWN_NAME = "report.md"
PLOTS_NAME = "plots"
NUM_WORST = 24


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What an evaluation left in its folder."""

    output_dir: Path
    decision: Decision
    metrics: dict[str, float]
    """The challenger's overall figures, latency_p50_ms, latency_p99_ms and size_bytes among them; all finite."""
    champion_metrics: dict[str, float]
    """The champion's on the same samples; empty without one, or where it cannot answer them."""
    breakdown: Breakdown
    """The challenger's figures by slice, its confusion matrix and its ROC curve."""

    @property
    def class_names(self) -> list[str]:
        """Of the confusion matrix; empty where there is none."""
        return list(self.breakdown.confusion.class_names) if self.breakdown.confusion else []

    @property
    def confusion_matrix(self) -> list[list[int]]:
        """Samples by true class (rows) and answer (columns); empty where there is none."""
        return [list(row) for row in self.breakdown.confusion.counts] if self.breakdown.confusion else []

    @property
    def report_html(self) -> Path:
        """Self-contained: the pictures are inside."""
        return self.output_dir / REPORT_HTML_NAME

    @property
    def report_markdown(self) -> Path:
        """The short form, for dashboards."""
        return self.output_dir / REPORT_MARKDOWN_NAME

    @property
    def predictions(self) -> Path:
        """Parquet: sample_id, target, score and the outputs, a row for each test sample."""
        return self.output_dir / PREDICTIONS_NAME


def evaluate_challenger(
    bundle_dir: Path,
    champion_bundle_dir: Path | None,
    dataset_dir: Path,
    policy: GateConfig,
    output_dir: Path,
    *,
    history: History | None = None,
    model_name: str = "",
    lineage: Mapping[str, str] | None = None,
) -> EvaluationResult:
    """Evaluate a bundle on the frozen test split, decide whether it may serve, and write results and reports.

    Args:
        bundle_dir: The challenger.
        champion_bundle_dir: The bundle that serves; None where none does. It answers the same samples.
        dataset_dir: The data set that the challenger was trained on.
        policy: Of the gate.
        output_dir: Becomes a folder of decision.json, metrics.json, report.html, report.md, predictions.parquet and plots/;
            it appears when all of it is written.
        history: Of the training, for the report.
        model_name: For the report's title.
        lineage: More facts for the report: run, versions, champion's version.

    Raises:
        BundleError: a bundle is damaged or its model cannot be loaded.
        EvaluationError: the challenger is not for this data set.
        DatasetCorruptError: the data set is damaged.
    """
    dataset = Dataset.open(dataset_dir)
    bundle = read_bundle(bundle_dir)
    challenger = evaluate_bundle(bundle, dataset)
    champion_bundle = read_bundle(champion_bundle_dir) if champion_bundle_dir else None
    champion = _evaluate_champion(champion_bundle, dataset)
    decision = _decide(challenger, champion_bundle, champion, policy)
    content = ReportContent(
        model_name=model_name,
        decision=decision,
        challenger=challenger,
        champion=champion,
        champion_info=champion_bundle.info if champion_bundle else None,
        manifest=dataset.manifest,
        plots=draw_plots(challenger),
        history_plot=draw_history(history) if history else None,
        worst=find_worst(challenger, dataset, NUM_WORST),
        lineage=dict(lineage or {}),
    )
    with staged_directory(output_dir) as staging:
        write_json(staging / DECISION_NAME, decision.to_json())
        write_json(staging / METRICS_NAME, _metrics_json(challenger, champion))
        _write_predictions(staging / PREDICTIONS_NAME, challenger)
        for plot in [*content.plots, *([content.history_plot] if content.history_plot else [])]:
            write_bytes(staging / PLOTS_NAME / f"{plot.name}.png", plot.png)
        write_text(staging / REPORT_HTML_NAME, render_html(content))
        write_text(staging / REPORT_MARKDOWN_NAME, render_markdown(content))
    return read_evaluation(output_dir)


def read_evaluation(output_dir: Path) -> EvaluationResult:
    """Read back what `evaluate_challenger` wrote.

    Raises:
        EvaluationError: a file is missing or damaged.
    """
    try:
        decision = Decision.from_json(json.loads((output_dir / DECISION_NAME).read_text()))
        content = json.loads((output_dir / METRICS_NAME).read_text())
        return EvaluationResult(
            output_dir=output_dir,
            decision=decision,
            metrics=content["metrics"],
            champion_metrics=content["champion_metrics"],
            breakdown=_parse_breakdown(content["breakdown"]),
        )
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise EvaluationError(f"{output_dir} does not hold a whole evaluation ({error!r}). Evaluate the bundle again.") from None


def _evaluate_champion(bundle: Bundle | None, dataset: Dataset) -> Evaluation | None:
    if bundle is None or not can_answer(bundle.info, dataset):
        return None
    return evaluate_bundle(bundle, dataset)


def _decide(challenger: Evaluation, champion_bundle: Bundle | None, champion: Evaluation | None, policy: GateConfig) -> Decision:
    higher_is_better = load_task(challenger.info.task).primary_metric.higher_is_better
    if champion is not None:
        against = to_gate_input(champion)
    elif champion_bundle is not None:
        against = to_unanswered_input(champion_bundle.info)
    else:
        against = None
    return decide(to_gate_input(challenger), against, policy, higher_is_better)


def _metrics_json(challenger: Evaluation, champion: Evaluation | None) -> dict[str, Any]:
    return {
        "metrics": _keep_finite(challenger.metrics),
        "champion_metrics": _keep_finite(champion.metrics) if champion else {},
        "breakdown": asdict(challenger.breakdown),
        "engine": asdict(challenger.engine),
        "champion_engine": asdict(champion.engine) if champion else None,
    }


def _keep_finite(figures: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN; the decision names the figures that are left out here."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _parse_breakdown(content: dict[str, Any]) -> Breakdown:
    confusion, roc = content["confusion"], content["roc"]
    return Breakdown(
        slices=content["slices"],
        confusion=confusion
        and ConfusionMatrix(class_names=tuple(confusion["class_names"]), counts=tuple(tuple(row) for row in confusion["counts"])),
        roc=roc and RocCurve(**{name: tuple(values) for name, values in roc.items()}),
    )


def _write_predictions(path: Path, evaluation: Evaluation) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "sample_id": pa.array(evaluation.sample_ids, type=pa.string()),
        "target": pa.array(evaluation.targets),
        "score": pa.array(evaluation.scores),
    }
    for name, values in evaluation.outputs.items():
        width = math.prod(values.shape[1:])
        columns[name] = (
            pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width) if values.ndim > 1 else pa.array(values)
        )
    table = pa.table(columns).replace_schema_metadata({"split": SPLIT, "bundle_id": evaluation.info.bundle_id})
    pq.write_table(table, path, compression="zstd")
