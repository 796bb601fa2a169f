"""From trained weights to a bundle: the graph, its check against torch on real samples, golden examples."""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slipway.config import ExportConfig
from slipway.cores import count_cores
from slipway.data.dataset import Dataset
from slipway.data.index import decoded_side
from slipway.data.loaders import MappedBatches
from slipway.data.manifest import Manifest, Split
from slipway.engines.engine import Engine
from slipway.engines.onnx_runtime import OnnxRuntimeEngine
from slipway.errors import ParityError
from slipway.export.bundle import INT8_NAME, MODEL_NAME, BundleInfo, ColumnInfo, write_bundle
from slipway.export.golden import GoldenExample
from slipway.export.quantize import quantize_graph
from slipway.export.reduction import reduce_precision
from slipway.export.signature import Signature
from slipway.models.info import ModelInfo
from slipway.provenance import code_version
from slipway.storage.files import staged_directory
from slipway.tasks.task import Task
from slipway.tasks.training_task import TrainingTask

OPSET = 18
"""The first with an antialiased Resize."""
PARITY_TOLERANCE = 1e-4
"""Largest absolute difference of an output (a probability) between torch in float32 and ONNX Runtime."""
NUM_PARITY_SAMPLES = 256
NUM_GOLDEN = 8
NUM_CALIBRATION = 128
"""Training samples that ranges of integers are taken from."""
CALIBRATION_BATCH = 16

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What export needs to know of a finished training."""

    network: nn.Module
    """With the weights to export."""
    architecture: str
    metrics: dict[str, float]
    """Of the validation split."""
    info: ModelInfo


def export_bundle(
    bundle_dir: Path,
    *,
    dataset: Dataset,
    task: Task,
    training_task: TrainingTask,
    trained: TrainedModel,
    config: ExportConfig | None = None,
) -> BundleInfo:
    """Write the bundle; `bundle_dir` appears only when everything in it has been checked.

    `config` says in which precisions it may be served; None takes the default settings.

    Raises:
        ParityError: ONNX Runtime does not give the outputs of the torch model.
    """
    manifest = dataset.manifest
    signature = task.signature(manifest)
    served = ServedModel(training_task.build_preprocessor(manifest), trained.network, training_task, signature)
    samples = _Samples(dataset, task, training_task)
    example, _ = samples.take("test", np.arange(min(2, dataset.num_rows("test"))))
    graph = export_graph(served, example)
    with staged_directory(bundle_dir) as staging:
        model_path = staging / MODEL_NAME
        _save_finished(graph, training_task, manifest, model_path)
        engine = OnnxRuntimeEngine(model_path, signature, num_threads=count_cores())
        difference = max(
            measure_parity(served, engine, samples, split) for split in ("validation", "test") if dataset.num_rows(split)
        )
        golden_inputs = [samples.take("test", np.array([row]))[1] for row in _golden_rows(dataset)]

        def write_int8() -> Path:
            quantised = quantize_graph(graph, samples.calibration_batches(served.input_names))
            return _save_finished(quantised, training_task, manifest, staging / INT8_NAME)

        reduction = reduce_precision(
            model_path,
            write_int8,
            dataset=dataset,
            task=task,
            signature=signature,
            golden_inputs=golden_inputs,
            config=config or ExportConfig(),
            macs=trained.info.macs,
        )
        golden = [
            GoldenExample(
                inputs=inputs,
                outputs=engine.predict(inputs),
                reduced={precision: reduced.predict(inputs) for precision, reduced in reduction.engines.items()},
            )
            for inputs in golden_inputs
        ]
        info = BundleInfo(
            task=manifest.task,
            architecture=trained.architecture,
            signature=signature,
            class_names=manifest.class_names,
            dataset_id=manifest.dataset_id,
            code_version=code_version(),
            opset=OPSET,
            metrics=trained.metrics,
            model=trained.info.to_json(),
            parity_max_difference=difference,
            precisions=reduction.precisions,
            default_precision=reduction.default,
            image_min_side=_find_min_side(manifest),
            columns=_describe_columns(manifest, signature),
        )
        return write_bundle(staging, info, golden)


class ServedModel(nn.Module):
    """All that is served, as one module: preprocessing, network, outputs; one positional tensor an input of the signature."""

    def __init__(self, preprocessor: nn.Module, network: nn.Module, task: TrainingTask, signature: Signature) -> None:
        super().__init__()
        self.preprocessor = copy.deepcopy(preprocessor)
        self.network = copy.deepcopy(network).to("cpu").to(memory_format=torch.contiguous_format)
        self._to_outputs = task.to_outputs
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """In the order that `forward` takes them."""
        return self._inputs

    @property
    def output_names(self) -> list[str]:
        """In the order that `forward` gives them."""
        return self._outputs

    def forward(self, *raw: Tensor) -> tuple[Tensor, ...]:
        """The signature's outputs, in its order."""
        batch = dict(zip(self._inputs, raw, strict=True))
        outputs = self._to_outputs(self.network(self.preprocessor(batch)))
        return tuple(outputs[name] for name in self._outputs)


def export_graph(served: ServedModel, example: dict[str, Tensor]) -> onnx.ModelProto:
    """Trace the model on example inputs [2, ...]; every first axis is exported as of any size.

    The TorchScript exporter takes 0.2 s where the one built on torch.export takes 3.5 s, for the same graph, since what
    that one is better at (control flow that depends on data) does not occur in our networks.
    """
    axes = {name: {0: "batch"} for name in (*served.input_names, *served.output_names)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / MODEL_NAME
        torch.onnx.export(
            served,
            tuple(example[name] for name in served.input_names),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=served.input_names,
            output_names=served.output_names,
            dynamic_axes=axes,
        )
        return onnx.load(path)


class _Samples:
    """The same rows as training gathers them and as a request would bring them."""

    def __init__(self, dataset: Dataset, task: Task, training_task: TrainingTask) -> None:
        self._dataset = dataset
        self._task = task
        self._training_task = training_task
        self._batches: dict[Split, MappedBatches] = {}

    def take(self, split: Split, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], Arrays]:
        """(raw tensors, the bundle's inputs)."""
        if split not in self._batches:
            data = self._training_task.load_split(self._dataset, split)
            self._batches[split] = MappedBatches(data, torch.device("cpu"))
        tensors, _ = self._batches[split].gather(rows)
        return tensors, self._task.read_inputs(self._dataset, split, rows)

    def calibration_batches(self, names: Sequence[str]) -> list[Arrays]:
        """Training samples spread evenly over the split, as the exported graph takes them."""
        rows = self.spread_rows("train", NUM_CALIBRATION)
        parts = [rows[start : start + CALIBRATION_BATCH] for start in range(0, len(rows), CALIBRATION_BATCH)]
        taken = [self.take("train", part)[0] for part in parts]
        return [{name: tensors[name].numpy() for name in names} for tensors in taken]

    def spread_rows(self, split: Split, limit: int) -> NDArray[np.int64]:
        """See `Dataset.spread_rows`."""
        return self._dataset.spread_rows(split, limit)


def measure_parity(served: ServedModel, engine: Engine, samples: _Samples, split: Split) -> float:
    """Largest absolute difference of any output over samples spread evenly over the split.

    Raises:
        ParityError: it is above the tolerance, or an output is not finite.
    """
    rows = samples.spread_rows(split, NUM_PARITY_SAMPLES)
    tensors, inputs = samples.take(split, rows)
    with torch.no_grad():
        expected = served(*(tensors[name] for name in served.input_names))
    actual = engine.predict(inputs)
    worst = 0.0
    for name, tensor in zip(served.output_names, expected, strict=True):
        differences = np.abs(actual[name] - tensor.numpy()).reshape(len(rows), -1).max(1)
        if not np.all(differences <= PARITY_TOLERANCE):
            position = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
            raise ParityError(
                f"output {name!r} of the exported model differs from torch by {differences[position]:.3g} "
                f"on row {rows[position]} of the {split} split; accepted: at most {PARITY_TOLERANCE:g}. "
                "The bundle was not written: an operation of the network is exported wrongly."
            )
        worst = max(worst, float(differences.max()))
    return worst


def _golden_rows(dataset: Dataset) -> list[int]:
    """The first test sample of each class, at most `NUM_GOLDEN`."""
    _, first = np.unique(dataset.labels("test"), return_index=True)
    return sorted(int(row) for row in first[:NUM_GOLDEN])


def _save_finished(graph: onnx.ModelProto, training_task: TrainingTask, manifest: Manifest, path: Path) -> Path:
    """`graph` stays as it is."""
    finished = training_task.finish_onnx(copy.deepcopy(graph), manifest)
    onnx.checker.check_model(finished)
    onnx.save(finished, path)
    return path


def _find_min_side(manifest: Manifest) -> int | None:
    sizes = [feature.shape[:2] for feature in manifest.features if feature.role == "image"]
    return decoded_side(*sizes[0]) if sizes else None


def _describe_columns(manifest: Manifest, signature: Signature) -> tuple[ColumnInfo, ...]:
    roles = {feature.name: feature.role for feature in manifest.features}
    found = [(spec.name, manifest.statistics_of(spec.name)) for spec in signature.inputs if roles[spec.name] != "image"]
    return tuple(
        ColumnInfo(name=name, categories=known.categories, minimum=known.minimum, maximum=known.maximum) for name, known in found
    )
