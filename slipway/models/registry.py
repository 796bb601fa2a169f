"""The networks by name. A new family is one build function and one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from torch import nn

from slipway.config import ModelConfig
from slipway.errors import ConfigError
from slipway.models.cnn import build_simple_cnn
from slipway.models.mlp import build_mlp
from slipway.models.resnet import build_resnet9, build_resnet18
from slipway.models.specs import InputSpec, Kind


@dataclass(frozen=True)
class Family:
    """One registered network."""

    kind: Kind
    build: Callable[..., nn.Module]
    """(spec, num_classes, config) to a network that gives logits [samples, classes]."""


_FAMILIES = {
    "simple-cnn": Family("image", build_simple_cnn),
    "resnet9": Family("image", build_resnet9),
    "resnet18": Family("image", build_resnet18),
    "mlp": Family("table", build_mlp),
}


def model_names(kind: Kind) -> list[str]:
    """Names of the networks that take this kind of input."""
    return sorted(name for name, family in _FAMILIES.items() if family.kind == kind)


def build_model(architecture: str, input_spec: InputSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """The network called `architecture`, which gives logits [samples, num_classes]; weights come from torch's generator.

    Raises:
        ConfigError: there is no such network for this kind of input; the message names the nearest.
    """
    accepted = model_names(input_spec.kind)
    if architecture not in accepted:
        nearest = get_close_matches(architecture, accepted, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(
            f"model.architecture is {architecture!r}; accepted for {input_spec.kind} data: auto, {', '.join(accepted)}.{hint}"
        )
    return _FAMILIES[architecture].build(input_spec, num_classes, config)
