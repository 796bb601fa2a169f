"""Whether a network may be served in fewer bits: what it loses on the validation split, and what it gains in speed."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.config import ExportConfig
from slipway.data.dataset import Dataset
from slipway.engines.choice import SMALL_MACS, find_obstacle
from slipway.engines.engine import Arrays, Engine
from slipway.engines.onnx_runtime import OnnxRuntimeEngine
from slipway.engines.openvino import OpenVinoEngine, import_openvino
from slipway.engines.processor import computes_natively, needed_flags
from slipway.export.golden import largest_difference
from slipway.export.precision import Precision, PrecisionInfo, Tolerance
from slipway.export.signature import Signature
from slipway.tasks.task import Task

MIN_SPEED_UP = 1.15
"""Below it a precision is not worth its loss: measurements of one machine differ by as much."""
NUM_COMPARED = 64
"""Validation samples on which two engines are compared."""
MAX_JUDGED = 2000
"""Validation samples, spread evenly over the split, that the loss is measured on."""
_BATCH_ROWS = 16
_TIMED_SECONDS = 2.0
_MIN_TIMED = 10
_MARGIN = 3.0
"""Of the tolerance over the largest difference seen."""
_ABSOLUTE = 1e-3
_LEAST_RELATIVE = 0.05


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """What came of trying."""

    precisions: tuple[PrecisionInfo, ...]
    default: Precision
    engines: dict[Precision, Engine]
    """Of those that are kept."""


def wanted_precisions(config: ExportConfig, macs: float) -> tuple[Precision, ...]:
    """What is worth trying: nothing for a small network, whose time goes elsewhere."""
    if config.precision == "fp32":
        return ()
    if config.precision == "auto":
        return () if macs < SMALL_MACS else ("int8", "bf16")
    return (config.precision,)


def reduce_precision(
    float_path: Path,
    write_int8: Callable[[], Path],
    *,
    dataset: Dataset,
    task: Task,
    signature: Signature,
    golden_inputs: Sequence[Arrays],
    config: ExportConfig,
    macs: float,
) -> Reduction:
    """Try the precisions that `config` wants.

    Args:
        float_path: The model in fp32.
        write_int8: Writes the quantised model beside it.
        dataset: Its validation split judges.
        task: What is judged by.
        signature: Of the model.
        golden_inputs: Of the golden examples.
        config: What is wanted, and how much may be lost.
        macs: Multiply-accumulates of the network for one sample.
    """
    wanted = wanted_precisions(config, macs)
    if not wanted:
        return Reduction(precisions=(), default="fp32", engines={})
    hindrances = {precision: _find_hindrance(precision, signature) for precision in wanted}
    found = {precision: _left_out(precision, why) for precision, why in hindrances.items() if why}
    possible = [precision for precision in wanted if precision not in found]
    engines: dict[Precision, Engine] = {}
    if possible:
        judge = _Judge(float_path, dataset, task, signature, golden_inputs, config)
        found |= {precision: judge.try_precision(precision, write_int8) for precision in possible}
        engines = judge.engines
    kept = [info for info in found.values() if info.kept]
    fastest = max(kept, key=lambda info: info.speed_up or 0.0, default=None)
    return Reduction(
        precisions=tuple(found[precision] for precision in wanted),
        default="fp32" if fastest is None else fastest.precision,
        engines=engines,
    )


class _Judge:
    def __init__(
        self,
        float_path: Path,
        dataset: Dataset,
        task: Task,
        signature: Signature,
        golden_inputs: Sequence[Arrays],
        config: ExportConfig,
    ) -> None:
        self._float_path = float_path
        self._dataset = dataset
        self._task = task
        self._signature = signature
        self._golden_inputs = golden_inputs
        self._config = config
        self._with_openvino = _has_openvino() and not find_obstacle(signature)
        self._plain = self._open(float_path, "fp32")
        self._rows = dataset.spread_rows("validation", MAX_JUDGED)
        self._targets = task.read_targets(dataset, "validation")[self._rows]
        self._plain_outputs = self._predict_validation(self._plain)
        self.engines: dict[Precision, Engine] = {}

    def try_precision(self, precision: Precision, write_int8: Callable[[], Path]) -> PrecisionInfo:
        """Open it, measure it, and decide."""
        path = write_int8() if precision == "int8" else self._float_path
        engine = self._open(path, precision)
        outputs = self._predict_validation(engine)
        drop = self._measure_drop(outputs)
        speed_up = _measure_speed_up(self._plain, engine, self._golden_inputs[0])
        difference = max(
            largest_difference(engine.predict(inputs), self._plain.predict(inputs)) for inputs in self._golden_inputs
        )
        fault = self._find_fault(drop, speed_up)
        kept = not fault
        if kept:
            self.engines[precision] = engine
        elif precision == "int8":
            path.unlink()
        return PrecisionInfo(
            precision=precision,
            file=path.name if kept else "",
            kept=kept,
            reason=fault or f"It is {speed_up:.1f} times as fast as fp32 and changes the {self._metric} by {0.0 - drop:+.4f}.",
            drop=drop,
            speed_up=speed_up,
            golden_difference=difference,
            tolerance=self._state_tolerance(precision, path, outputs) if kept else None,
        )

    @property
    def _metric(self) -> str:
        return self._task.primary_metric.name

    def _open(self, path: Path, precision: Precision) -> Engine:
        if self._with_openvino:
            return OpenVinoEngine(path, self._signature, precision=precision)
        return OnnxRuntimeEngine(path, self._signature, precision=precision)

    def _predict_validation(self, engine: Engine) -> dict[str, NDArray[Any]]:
        parts = [engine.predict(inputs) for inputs in self._batches()]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _batches(self) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(self._rows), _BATCH_ROWS):
            yield self._task.read_inputs(self._dataset, "validation", self._rows[start : start + _BATCH_ROWS])

    def _measure_drop(self, outputs: dict[str, NDArray[Any]]) -> float:
        sign = 1.0 if self._task.primary_metric.higher_is_better else -1.0
        plain = self._task.score_samples(self._plain_outputs, self._targets)
        reduced = self._task.score_samples(outputs, self._targets)
        return float(np.mean(sign * (plain - reduced)))

    def _find_fault(self, drop: float, speed_up: float) -> str:
        if not drop <= self._config.max_drop:
            return (
                f"It loses {drop:.4f} of the {self._metric} on the validation split, "
                f"where {self._config.max_drop:g} is allowed (export.max_drop, gate.max_regression)."
            )
        if self._config.precision == "auto" and speed_up < MIN_SPEED_UP:
            return f"It is {speed_up:.2f} times as fast as fp32; {MIN_SPEED_UP} times is worth it."
        return ""

    def _state_tolerance(self, precision: Precision, path: Path, outputs: dict[str, NDArray[Any]]) -> Tolerance:
        """From how far another right computation of the same numbers is away: int8 in the other engine, fp32 for bf16."""
        rows = self._rows[:NUM_COMPARED]
        reference = {name: array[: len(rows)] for name, array in outputs.items()}
        other = {name: array[: len(rows)] for name, array in self._plain_outputs.items()}
        if precision == "int8" and self._with_openvino:
            second = OnnxRuntimeEngine(path, self._signature, precision=precision)
            other = second.predict(self._task.read_inputs(self._dataset, "validation", rows))
        ratios = [
            np.max(np.maximum(np.abs(other[name] - array) - _ABSOLUTE, 0.0) / np.maximum(np.abs(array), _ABSOLUTE))
            for name, array in reference.items()
            if array.dtype.kind == "f"
        ]
        return Tolerance(absolute=_ABSOLUTE, relative=round(max(_LEAST_RELATIVE, _MARGIN * float(max(ratios, default=0.0))), 3))


def _find_hindrance(precision: Precision, signature: Signature) -> str:
    """Why a precision cannot be tried; "" where it can."""
    if not computes_natively(precision):
        return f"The machine that exported has no processor with {needed_flags(precision)}."
    if precision != "bf16":
        return ""
    if obstacle := find_obstacle(signature):
        return f"{obstacle}; no other engine computes in bf16."
    return "" if _has_openvino() else "OpenVINO, which computes in bf16, is not installed where the model was exported."


def _has_openvino() -> bool:
    try:
        import_openvino()
    except ImportError:
        return False
    return True


def _left_out(precision: Precision, reason: str) -> PrecisionInfo:
    return PrecisionInfo(precision=precision, file="", kept=False, reason=reason)


def _measure_speed_up(plain: Engine, reduced: Engine, inputs: Arrays) -> float:
    """Ratio of median times for one sample, taken in turns, so that what else the machine does slows both alike."""
    for engine in (plain, reduced):
        engine.warm_up(inputs)
    seconds: tuple[list[float], list[float]] = ([], [])
    deadline = time.perf_counter() + _TIMED_SECONDS
    while time.perf_counter() < deadline or len(seconds[0]) < _MIN_TIMED:
        for engine, taken in zip((plain, reduced), seconds, strict=True):
            start = time.perf_counter()
            engine.predict(inputs)
            taken.append(time.perf_counter() - start)
    return float(np.median(seconds[0]) / np.median(seconds[1]))
