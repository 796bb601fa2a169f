"""Evaluate: judge the bundle on the frozen test split, beside the champion, and decide."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def evaluate(
    data_source: str,
    deploy_model_name: str,
    deploy_target: str,
    gate_min_score: float,
    gate_max_regression: float,
    gate_confidence: float,
    gate_num_resamples: int,
    gate_slice_tolerance: float,
    gate_min_slice_samples: int,
    gate_max_latency_ms: float,
    gate_seed: int,
    dataset: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    training: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> str:
    """Evaluate as it would serve, compare with the champion, apply the gate, register: `passed` or `refused`."""
    parameters = locals()
    from slipway.stages.evaluate import run_evaluate

    outcome = run_evaluate(parameters, dataset.path, bundle.path, training.path, evaluation.path, report.path, summary.path)
    evaluation.metadata.update(outcome.metadata)
    for name, value in outcome.metrics.items():
        metrics.log_metric(name, value)
    confusion.log_confusion_matrix(outcome.class_names, outcome.confusion_matrix)
    return outcome.decision
