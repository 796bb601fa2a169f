"""The golden examples asked of an engine on this machine, before it answers anyone."""

from slipway.engines.engine import Engine
from slipway.errors import BundleError, RequestError
from slipway.export.bundle import Bundle
from slipway.export.golden import expect_answer, find_fault


def check_golden_examples(bundle: Bundle, engine: Engine) -> None:
    """Let the engine answer each golden example, which warms it up too.

    Raises:
        BundleError: it does not answer one, or answers otherwise than the model that was evaluated.
    """
    for position, example in enumerate(bundle.golden):
        where = f"Golden example {position + 1} of {len(bundle.golden)}"
        try:
            outputs = engine.predict(example.inputs)
        except RequestError as error:
            raise BundleError(f"{where} of {bundle.root} is not answered. {error}") from None
        fault = find_fault(outputs, expect_answer(example, bundle.info.precisions, engine.info.precision))
        if fault:
            raise BundleError(
                f"{where}, {fault}. {bundle.root} holds another model than was evaluated, or this machine computes it wrongly."
            )
