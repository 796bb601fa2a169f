"""The networks by name. A new family is one build function and one line here.

Names can be looked up without torch: a network's module is imported when it is built.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from slipway.config import ModelConfig
from slipway.errors import ConfigError
from slipway.models.specs import InputSpec, Kind

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"


@dataclass(frozen=True)
class Family:
    """One registered network."""

    kind: Kind
    module: str
    build: str
    """Function of the module: (spec, num_classes, config) to a network that gives logits [samples, classes]."""


_FAMILIES = {
    "simple-cnn": Family("image", "slipway.models.cnn", "build_simple_cnn"),
    "resnet9": Family("image", "slipway.models.resnet", "build_resnet9"),
    "resnet18": Family("image", "slipway.models.resnet", "build_resnet18"),
    "mlp": Family("table", "slipway.models.mlp", "build_mlp"),
}


def model_names(kind: Kind | None = None) -> list[str]:
    """Names of the networks that take this kind of input, or of all."""
    return sorted(name for name, family in _FAMILIES.items() if kind in (None, family.kind))


def check_architecture(architecture: str, kind: Kind | None = None) -> None:
    """Refuse a name that is no network's, or not one for this kind of input (ConfigError, with the nearest name)."""
    accepted = model_names(kind)
    if architecture not in accepted:
        nearest = get_close_matches(architecture, accepted, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        data = f" for {kind} data" if kind else ""
        raise ConfigError(f"model.architecture is {architecture!r}; accepted{data}: {AUTO}, {', '.join(accepted)}.{hint}")


def build_model(architecture: str, input_spec: InputSpec, num_classes: int, config: ModelConfig) -> "nn.Module":
    """The network called `architecture`, which gives logits [samples, num_classes]; weights come from torch's generator.

    Raises:
        ConfigError: there is no such network for this kind of input; the message names the nearest.
    """
    check_architecture(architecture, input_spec.kind)
    family = _FAMILIES[architecture]
    network: nn.Module = getattr(import_module(family.module), family.build)(input_spec, num_classes, config)
    return network
