"""The size and cost of a network."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Figures of one network."""

    parameters: int
    trainable_parameters: int
    macs: int
    """Multiply-accumulates of the convolutions and linear layers for one sample."""
    size_bytes: int
    """Parameters and buffers in memory."""

    def to_json(self) -> dict[str, float]:
        """As it stands in `bundle.json`."""
        return asdict(self)


def model_info(model: nn.Module, example_input: Tensor) -> ModelInfo:
    """Measure `model` by running it once, in evaluation mode, on one sample [1, ...]; its mode is restored."""
    macs = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += _count_macs(module, output)

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(example_input[:1])
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    parameters = list(model.parameters())
    return ModelInfo(
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        macs=macs,
        size_bytes=sum(tensor.nbytes for tensor in (*parameters, *model.buffers())),
    )


def _count_macs(module: nn.Module, output: Tensor) -> int:
    """An output element of a layer costs as many as the layer has weights for it."""
    weights_per_output = module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
    return output.numel() * weights_per_output
