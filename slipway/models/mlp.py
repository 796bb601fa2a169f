"""A multilayer perceptron for tables."""

from torch import nn

from slipway.config import ModelConfig
from slipway.models.specs import TableSpec, scale_width

_HIDDEN = (128, 64)


def build_mlp(spec: TableSpec, num_classes: int, config: ModelConfig) -> nn.Module:
    """Two hidden layers. A category's one-hot columns times the first layer's weights are its embedding."""
    layers: list[nn.Module] = []
    inputs = spec.num_features
    for units in (scale_width(value, config.width) for value in _HIDDEN):
        layers += [nn.Linear(inputs, units), nn.ReLU()]
        inputs = units
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(inputs, num_classes))
