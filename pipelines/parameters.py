"""A pipeline's parameters, taken from the library's dataclasses: names, types and defaults stand in no second place."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from slipway.config import Config
from slipway.overrides import list_settings, to_parameters

Parameters = Mapping[str, Any]


def with_parameters(define: Callable[[Parameters], None], config: Config) -> Callable[..., None]:
    """`define` as a function with one keyword for each setting, its default taken from `config`.

    KFP reads a pipeline's interface from the function's signature and calls it with one channel for each parameter.
    """
    defaults = to_parameters(config)
    settings = list_settings()
    signature = inspect.Signature(
        [
            inspect.Parameter(
                setting.parameter,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults[setting.parameter],
                annotation=setting.type,
            )
            for setting in settings
        ]
    )

    def pipeline(*channels: Any) -> None:
        define(dict(zip(signature.parameters, channels, strict=True)))

    pipeline.__name__, pipeline.__doc__ = define.__name__, define.__doc__
    pipeline.__signature__ = signature  # type: ignore[attr-defined]
    return pipeline


def pick(component: dsl.base_component.BaseComponent, parameters: Parameters) -> dict[str, Any]:
    """The parameters that `component` takes, by name."""
    return {name: parameters[name] for name in component.component_spec.inputs if name in parameters}
