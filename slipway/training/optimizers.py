"""Optimizers by name."""

from torch import nn, optim

from slipway.config import TrainConfig

_SECOND_BETA = 0.999


def build_optimizer(network: nn.Module, config: TrainConfig) -> optim.Optimizer:
    """The optimizer over all trainable parameters; weight decay spares biases and normalisation (one dimension or none)."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    match config.optimizer:
        case "sgd":
            return optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0.0, fused=True)
        case "adam":
            return optim.Adam(groups, lr=rate, betas=(config.momentum, _SECOND_BETA), fused=True)
        case "adamw":
            return optim.AdamW(groups, lr=rate, betas=(config.momentum, _SECOND_BETA), fused=True)


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
