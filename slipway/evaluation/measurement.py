"""Running a bundle over a test split: outputs, scores, figures, latency."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.cores import count_cores
from slipway.data.dataset import Dataset
from slipway.data.manifest import Split
from slipway.engines.choice import open_engine
from slipway.engines.engine import Engine, EngineInfo
from slipway.errors import EvaluationError
from slipway.evaluation.decision import GateInput
from slipway.evaluation.latency import MAX_TIMED, Latency, measure_latency
from slipway.export.bundle import Bundle, BundleInfo
from slipway.tasks.registry import load_task
from slipway.tasks.task import Breakdown, Plot, Task, WrongSample

SPLIT: Split = "test"
_BATCH_BYTES = 1 << 20
_MAX_BATCH_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one bundle showed on a test split; the first axis of every array is the sample, in the data set's row order."""

    info: BundleInfo
    sample_ids: tuple[str, ...]
    targets: NDArray[Any]
    outputs: dict[str, NDArray[Any]]
    scores: NDArray[np.float64]
    """Each sample's share of the primary metric; NaN where an output of the sample is not finite."""
    metrics: dict[str, float]
    """The task's overall figures (only the primary metric, as NaN, where an output is not finite), latency and size."""
    breakdown: Breakdown
    slices: dict[str, NDArray[np.bool_]]
    latency: Latency
    engine: EngineInfo
    """What ran the model: the engine and precision in which it would serve on this machine."""

    @property
    def is_finite(self) -> bool:
        """Whether every output is a finite number, so that pictures can be drawn of it."""
        return bool(np.isfinite(self.scores).all())


def evaluate_bundle(bundle: Bundle, dataset: Dataset) -> Evaluation:
    """Run the bundle itself over the frozen test split, in the engine and precision in which it would serve here.

    Args:
        bundle: The model; its task, classes and inputs must be those of the data set.
        dataset: Where the test split is.

    Raises:
        BundleError: the model cannot be loaded, or is not what its bundle states.
        EvaluationError: the bundle is for another kind of data, or answers with arrays of another shape than it states.
        DatasetCorruptError: the data set is damaged.
    """
    _check_match(bundle, dataset)
    task = load_task(bundle.info.task)
    engine = open_engine(bundle, num_threads=count_cores())
    outputs = _predict_split(engine, task, dataset)
    targets = task.read_targets(dataset, SPLIT)
    class_names = bundle.info.class_names
    scores = task.score_samples(outputs, targets)
    finite = _find_finite_rows(outputs, len(targets))
    scores[~finite] = np.nan
    if finite.all():
        metrics = task.compute_metrics(outputs, targets, class_names)
        breakdown = task.break_down(outputs, targets, class_names)
    else:
        metrics, breakdown = {task.primary_metric.name: math.nan}, Breakdown(slices={})
    latency = measure_latency(engine, _read_singles(engine, task, dataset))
    costs = {
        "latency_p50_ms": latency.p50_ms,
        "latency_p99_ms": latency.p99_ms,
        "size_bytes": float(bundle.file_of(engine.info.precision).stat().st_size),
    }
    return Evaluation(
        info=bundle.info,
        sample_ids=tuple(dataset.sample_ids(SPLIT)),
        targets=targets,
        outputs=outputs,
        scores=scores,
        metrics=metrics | costs,
        breakdown=breakdown,
        slices=task.find_slices(targets, class_names),
        latency=latency,
        engine=engine.info,
    )


def to_gate_input(evaluation: Evaluation) -> GateInput:
    """What the gate needs of an evaluation."""
    task = load_task(evaluation.info.task)
    return GateInput(
        task=evaluation.info.task,
        metric=task.primary_metric.name,
        class_names=evaluation.info.class_names,
        signature=evaluation.info.signature,
        sample_ids=evaluation.sample_ids,
        scores=evaluation.scores,
        outputs=evaluation.outputs,
        slices=evaluation.slices,
        slice_noun=task.slice_noun,
        metrics=evaluation.metrics,
        latency_p99_ms=evaluation.latency.p99_ms,
    )


def to_unanswered_input(info: BundleInfo) -> GateInput:
    """What the gate is told of a champion that cannot answer the samples: who it is, and no results."""
    task = load_task(info.task)
    return GateInput(
        task=info.task,
        metric=task.primary_metric.name,
        class_names=info.class_names,
        signature=info.signature,
        sample_ids=(),
        scores=np.empty(0),
        outputs={},
        slices={},
        slice_noun=task.slice_noun,
        metrics={},
        latency_p99_ms=math.nan,
    )


def draw_plots(evaluation: Evaluation) -> list[Plot]:
    """The task's pictures; none where an output is not finite."""
    if not evaluation.is_finite:
        return []
    task = load_task(evaluation.info.task)
    return task.draw_plots(evaluation.outputs, evaluation.targets, evaluation.info.class_names)


def find_worst(evaluation: Evaluation, dataset: Dataset, limit: int) -> list[WrongSample]:
    """The most confident mistakes; none where an output is not finite."""
    if not evaluation.is_finite:
        return []
    return load_task(evaluation.info.task).find_worst(dataset, SPLIT, evaluation.outputs, limit)


def can_answer(info: BundleInfo, dataset: Dataset) -> bool:
    """Whether the bundle is for this task and these classes, and takes inputs that the data set has."""
    return _find_mismatch(info, dataset) is None


def _check_match(bundle: Bundle, dataset: Dataset) -> None:
    mismatch = _find_mismatch(bundle.info, dataset)
    if mismatch is not None:
        raise EvaluationError(
            f"The bundle {bundle.root} cannot be evaluated on the data set {dataset.root}: {mismatch}. "
            "Evaluate it on a data set prepared from the same kind of source."
        )


def _find_mismatch(info: BundleInfo, dataset: Dataset) -> str | None:
    manifest = dataset.manifest
    if info.task != manifest.task:
        return f"the bundle's task is {info.task}, the data set's is {manifest.task}"
    if info.class_names != manifest.class_names:
        return f"the bundle's {len(info.class_names)} classes are not the data set's {len(manifest.class_names)}, in this order"
    available = load_task(info.task).signature(manifest).inputs
    lacking = [spec.name for spec in info.signature.inputs if spec not in available]
    return f"the data set lacks the inputs {', '.join(lacking)} in the form that the bundle takes" if lacking else None


def _predict_split(engine: Engine, task: Task, dataset: Dataset) -> dict[str, NDArray[Any]]:
    wanted = [spec.name for spec in engine.signature.inputs]
    batches = []
    for rows in _iterate_batches(dataset):
        inputs = task.read_inputs(dataset, SPLIT, rows)
        outputs = engine.predict({name: inputs[name] for name in wanted})
        _check_outputs(engine, outputs, len(rows))
        batches.append(outputs)
    if not batches:
        raise EvaluationError(f"{dataset.root} has no test samples. Raise data.test_fraction or add data.")
    return {spec.name: np.concatenate([batch[spec.name] for batch in batches]) for spec in engine.signature.outputs}


def _read_singles(engine: Engine, task: Task, dataset: Dataset) -> list[dict[str, NDArray[Any]]]:
    rows = np.arange(min(dataset.num_rows(SPLIT), MAX_TIMED))
    inputs = task.read_inputs(dataset, SPLIT, rows)
    return [{spec.name: inputs[spec.name][row : row + 1] for spec in engine.signature.inputs} for row in rows]


def _iterate_batches(dataset: Dataset) -> Iterator[NDArray[np.int64]]:
    """Rows in blocks of about a megabyte of input, so that a large image does not fill the memory with activations."""
    row_bytes = sum(math.prod(feature.shape) * (1 if feature.dtype == "uint8" else 4) for feature in dataset.manifest.features)
    size = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // max(row_bytes, 1)))
    num_rows = dataset.num_rows(SPLIT)
    for start in range(0, num_rows, size):
        yield np.arange(start, min(start + size, num_rows))


def _check_outputs(engine: Engine, outputs: dict[str, NDArray[Any]], num_rows: int) -> None:
    for spec in engine.signature.outputs:
        found = outputs[spec.name].shape
        if not spec.fits(found) or found[0] != num_rows:
            raise EvaluationError(
                f"The model's output {spec.name!r} has the shape {list(found)} for {num_rows} samples; its bundle states "
                f"{list(spec.shape)}. Export the model again."
            )


def _find_finite_rows(outputs: dict[str, NDArray[Any]], num_rows: int) -> NDArray[np.bool_]:
    finite = np.ones(num_rows, dtype=bool)
    for array in outputs.values():
        if array.dtype.kind == "f":
            finite &= np.isfinite(array.reshape(num_rows, -1)).all(axis=1)
    return finite
