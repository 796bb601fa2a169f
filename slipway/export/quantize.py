"""A float graph as one of 8-bit integers, with ranges taken from real samples."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

QUANTISED_OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool", "ReduceMean")
"""The expensive ones, and what lies between them, so that numbers need not become floats in between.

With Relu among them what stands before one is rounded once, to the range behind it; else twice, and first over a range whose
negative part is thrown away.
"""
FLOAT_RESULTS = ("Gemm", "MatMul")
"""Whose results stay floats unless the next operator rounds them: a network's last scores, else cut off where the largest of the
calibration ended."""


def quantize_graph(graph: "onnx.ModelProto", calibration: Sequence[Mapping[str, NDArray[Any]]]) -> "onnx.ModelProto":
    """The graph with 8-bit weights and activations, as pairs of QuantizeLinear and DequantizeLinear (QDQ).

    Weights are signed, symmetric and have a scale for each output channel; activations are unsigned with a zero point, and span
    the smallest to the largest value seen. ONNX Runtime is fast on this form alone; OpenVINO on most.

    Args:
        graph: Whose inputs have fixed sizes but for the batch.
        calibration: Batches of its inputs, as like those that it will serve as can be had.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Mapping[str, NDArray[Any]]] = iter(calibration)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self._left, None)
            return None if batch is None else dict(batch)

    with tempfile.TemporaryDirectory() as folder, _without_advice():
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "quantised.onnx"
        onnx.save(graph, plain)
        quantize_static(
            plain,
            quantised,
            Batches(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": list(FLOAT_RESULTS),
            },
        )
        return onnx.load(quantised)


class _without_advice:  # noqa: N801 used like a function
    """ONNX Runtime logs through the root logger that the graph could be optimised first; the exporter has done so."""

    def __enter__(self) -> None:
        self._level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().setLevel(self._level)
