"""Every setting of the training pipeline: name, type, default, accepted values.

Pipelines, presets and the command line take their parameters from these dataclasses and from nowhere else; the
pipeline's parameter for `train.epochs` is `train_epochs`. Values are scalars, since that is what crosses KFP unharmed.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from slipway.errors import ConfigError
from slipway.placement import parse_node_selector, parse_tolerations

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _require(holds: bool, setting: str, value: object, accepted: str) -> None:
    if not holds:
        raise ConfigError(f"{setting} is {value!r}; accepted: {accepted}.")


def _require_fraction(setting: str, value: float) -> None:
    _require(0.0 <= value <= 1.0, setting, value, "a number from 0 to 1")


def check_model_name(name: str) -> None:
    """ConfigError where `name` cannot be one of a folder, an endpoint and a registered model."""
    accepted = "1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit"
    _require(_MODEL_NAME.fullmatch(name) is not None, "deploy.model_name", name, accepted)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data is, how it is split, and what validation lets through."""

    source: str = "sklearn://digits"
    """sklearn://NAME, idx://DIR, cifar10://DIR, folder://DIR or csv://FILE?target=COLUMN; folder+s3://BUCKET/FOLDER and so on."""
    image_size: int = 0
    """Side in pixels that images are stored at; 0 keeps the source's size when all are equal and at most 64, else 224."""
    split_by: Literal["auto", "source", "hash"] = "auto"
    """`source` keeps the test set a source comes with, `hash` splits by content, `auto` takes the source's if it has one."""
    seed: int = 0
    """Decides, with a sample's content, which split it belongs to. Changing it moves the frozen test split."""
    validation_fraction: float = 0.1
    """Share of the samples held out for early stopping and the choice of the best epoch."""
    test_fraction: float = 0.2
    """Share of the samples in the frozen test split."""
    max_unreadable: float = 0.0
    """Share of unreadable samples that validation tolerates; tolerated ones are left out."""
    max_constant: float = 0.01
    """Share of images of one single colour that validation tolerates."""
    max_duplicates: float = 0.2
    """Share of samples that repeat another one exactly which validation tolerates."""
    max_leaked: float = 0.01
    """Share of a source's own test samples that may also stand in its training set; the training copies are left out."""
    min_class_samples: int = 10
    """Fewest samples a class may have."""
    max_imbalance: float = 100.0
    """Largest class size divided by the smallest that validation tolerates."""

    def __post_init__(self) -> None:
        _require("://" in self.source, "data.source", self.source, type(self).source_forms())
        _require(
            self.image_size == 0 or 8 <= self.image_size <= 1024, "data.image_size", self.image_size, "0, or 8 to 1024 pixels"
        )
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            _require(0.0 < value < 0.9, f"data.{name}", value, "more than 0 and less than 0.9")
        held_out = self.validation_fraction + self.test_fraction
        _require(
            held_out < 0.95,
            "data.validation_fraction + data.test_fraction",
            held_out,
            "less than 0.95: some must be left to train on",
        )
        for name in ("max_unreadable", "max_constant", "max_duplicates", "max_leaked"):
            _require_fraction(f"data.{name}", getattr(self, name))
        _require(self.min_class_samples >= 1, "data.min_class_samples", self.min_class_samples, "1 or more")
        _require(self.max_imbalance >= 1.0, "data.max_imbalance", self.max_imbalance, "1 or more")

    @staticmethod
    def source_forms() -> str:
        """The accepted forms of `source`, for messages."""
        files = "idx://DIR, cifar10://DIR, folder://DIR, csv://FILE?target=COLUMN"
        return f"sklearn://NAME, {files}, and of these, in an object store, such as folder+s3://BUCKET/FOLDER"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network is trained."""

    architecture: str = "auto"
    """A name in the model registry; `auto` takes the task's default."""
    width: float = 1.0
    """Multiplies the number of channels or hidden units of every layer."""
    dropout: float = 0.0
    """Share of the last hidden layer's units dropped in training."""

    def __post_init__(self) -> None:
        _require(0.01 <= self.width <= 8.0, "model.width", self.width, "0.01 to 8")
        _require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "0 or more and less than 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained."""

    epochs: int = 30
    """Passes over the training split."""
    batch_size: int = 64
    """Samples in a step over all processes together, before accumulation."""
    learning_rate: float = 0.01
    """Peak learning rate."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    """`sgd` has Nesterov momentum."""
    momentum: float = 0.9
    """Momentum of `sgd`, beta1 of the others."""
    weight_decay: float = 0.01
    """Applied to weights of two or more dimensions; not to biases and normalisation."""
    schedule: Literal["constant", "step", "cosine", "plateau", "one-cycle"] = "cosine"
    """What the learning rate does after warm-up."""
    warmup_epochs: int = 1
    """Epochs over which the learning rate rises linearly to its peak."""
    step_epochs: int = 10
    """`step`: epochs between two reductions. `plateau`: epochs without improvement before one."""
    step_factor: float = 0.1
    """`step` and `plateau`: what a reduction multiplies the learning rate by."""
    label_smoothing: float = 0.0
    """Share of the target probability spread over all classes."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    accumulate_steps: int = 1
    """Batches whose gradients are added up before one optimizer step."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` takes bfloat16 where the processor computes it natively and the network is large enough to gain."""
    channels_last: bool = True
    """Memory layout of images; faster on CPU and GPU alike."""
    crop_padding: int = 0
    """Pixels of reflect padding before a random crop; 0 turns it off."""
    flip: bool = False
    """Mirror images left to right at random."""
    cutout: int = 0
    """Side in pixels of a square blanked at random; 0 turns it off."""
    color_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation changes; 0 turns them off."""
    early_stopping_epochs: int = 0
    """Epochs without improvement on the validation split before training ends; 0 never ends early."""
    seed: int = 0
    """Decides initial weights, order and augmentation."""
    deterministic: bool = True
    """Refuse operations whose result varies from run to run."""
    num_processes: int = 1
    """Processes that torchrun starts when no GPU is asked for; they share the cores."""
    num_gpus: int = 0
    """GPUs of each node to train on, one process each; also the request of the training task on a cluster."""
    num_nodes: int = 1
    """Pods to train over, each with `num_processes` or `num_gpus` processes; on a laptop all of them are processes here."""
    launcher: Literal["auto", "local", "indexed-job", "train-job"] = "auto"
    """`local` is torchrun in the task itself, `indexed-job` a Kubernetes Job, `train-job` Kubeflow Trainer; `auto` takes a Job
    where there are several nodes and a cluster."""
    schedule_seconds: int = 45
    """How long the pods of a training may wait for a node or an image; raise it where nodes are added on demand."""
    node_selector: str = ""
    """Cluster: labels of the nodes to train on, KEY=VALUE with commas between."""
    tolerations: str = ""
    """Cluster: taints of nodes that training tolerates, KEY=VALUE:EFFECT or KEY:EFFECT with commas between."""
    shared_memory_gib: int = 0
    """Cluster: size of /dev/shm, which counts as memory; 0 takes 2 GiB, or what the runtime of a TrainJob says."""
    max_restarts: int = 2
    """Times torchrun starts the workers again after one has died."""
    checkpoint_steps: int = 0
    """Optimizer steps between two checkpoints inside an epoch; 0 writes them at the end of each epoch only."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate_steps", "num_processes", "num_nodes", "schedule_seconds", "step_epochs"):
            _require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "1 or more")
        for name in (
            "warmup_epochs", "clip_norm", "weight_decay", "crop_padding", "cutout", "color_jitter",
            "early_stopping_epochs", "seed", "num_gpus", "max_restarts", "checkpoint_steps", "shared_memory_gib",
        ):  # fmt: skip
            _require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "0 or more")
        _require(0.0 < self.learning_rate <= 100.0, "train.learning_rate", self.learning_rate, "more than 0 and at most 100")
        _require(0.0 <= self.momentum < 1.0, "train.momentum", self.momentum, "0 or more and less than 1")
        _require(0.0 < self.step_factor < 1.0, "train.step_factor", self.step_factor, "more than 0 and less than 1")
        _require(0.0 <= self.label_smoothing < 1.0, "train.label_smoothing", self.label_smoothing, "0 or more and less than 1")
        _require(self.color_jitter <= 1.0, "train.color_jitter", self.color_jitter, "0 to 1")
        parse_node_selector(self.node_selector)
        parse_tolerations(self.tolerations)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """In which precision the model may be served."""

    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """`auto` serves int8 or bf16 where that is really faster and loses too little to matter, and does not try for small networks;
    `int8` and `bf16` do not ask for the speed."""
    max_drop: float = 0.02
    """Loss in the primary metric on the validation split that a faster precision may cost; gate.max_regression limits it too."""

    def __post_init__(self) -> None:
        _require(self.max_drop >= 0.0, "export.max_drop", self.max_drop, "0 or more")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a challenger must show before it may serve."""

    min_score: float = 0.7
    """Absolute floor of the task's primary metric (in its own unit)."""
    max_regression: float = 0.02
    """How far below zero the lower bound of challenger minus champion may lie."""
    confidence: float = 0.95
    """Of the paired bootstrap's interval."""
    num_resamples: int = 2000
    """Of the paired bootstrap."""
    slice_tolerance: float = 0.1
    """How far a slice (a class, by default) may fall below the champion's."""
    min_slice_samples: int = 30
    """Slices with fewer test samples are reported and not judged."""
    max_latency_ms: float = 100.0
    """Budget for the 99th percentile of one single-sample prediction, measured on the bundle."""
    seed: int = 0
    """Of the bootstrap's resampling."""

    def __post_init__(self) -> None:
        _require(self.max_regression >= 0.0, "gate.max_regression", self.max_regression, "0 or more")
        _require(0.5 < self.confidence < 1.0, "gate.confidence", self.confidence, "more than 0.5 and less than 1")
        _require(100 <= self.num_resamples <= 1_000_000, "gate.num_resamples", self.num_resamples, "100 to 1000000")
        _require(self.slice_tolerance >= 0.0, "gate.slice_tolerance", self.slice_tolerance, "0 or more")
        _require(self.min_slice_samples >= 1, "gate.min_slice_samples", self.min_slice_samples, "1 or more")
        _require(self.max_latency_ms > 0.0, "gate.max_latency_ms", self.max_latency_ms, "more than 0")


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """Under which name a model is registered and how it is brought into service."""

    model_name: str = ""
    """Name in the registry and of the endpoint; "" takes it from the source (`sklearn://digits` gives `digits`)."""
    target: Literal["auto", "local", "kserve"] = "auto"
    """Where the model serves: `local` on this machine, `kserve` as an InferenceService; `auto` takes KServe inside a cluster."""
    smoke_tolerance: float = 1e-3
    """Largest absolute difference from a golden example's expected output that counts as the same answer."""
    timeout_seconds: int = 60
    """How long the endpoint may take to become ready, and to answer the golden examples."""
    min_replicas: int = 1
    """KServe: pods that serve at least."""
    max_replicas: int = 1
    """KServe: pods that serve at most, scaled by their processors' load."""
    slo_seconds: int = 10
    """KServe: how long the promoted version is watched before the alias moves; 0 does not watch."""
    slo_error_rate: float = 0.0
    """KServe: share of failed requests in that time above which it is rolled back."""
    slo_latency_ms: float = 1000.0
    """KServe: 99th percentile of a golden example's answer in that time above which it is rolled back."""

    def __post_init__(self) -> None:
        if self.model_name:
            check_model_name(self.model_name)
        _require(self.smoke_tolerance > 0.0, "deploy.smoke_tolerance", self.smoke_tolerance, "more than 0")
        _require(self.timeout_seconds >= 1, "deploy.timeout_seconds", self.timeout_seconds, "1 or more")
        _require(self.min_replicas >= 1, "deploy.min_replicas", self.min_replicas, "1 or more")
        _require(self.max_replicas >= self.min_replicas, "deploy.max_replicas", self.max_replicas, "deploy.min_replicas or more")
        _require(self.slo_seconds >= 0, "deploy.slo_seconds", self.slo_seconds, "0 or more")
        _require_fraction("deploy.slo_error_rate", self.slo_error_rate)
        _require(self.slo_latency_ms > 0.0, "deploy.slo_latency_ms", self.slo_latency_ms, "more than 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    deploy: DeployConfig = field(default_factory=DeployConfig)

    def effective_export(self) -> ExportConfig:
        """The export's settings with the gate's limit on what may be lost."""
        return replace(self.export, max_drop=min(self.export.max_drop, self.gate.max_regression))
