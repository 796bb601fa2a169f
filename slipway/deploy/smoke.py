"""The golden examples asked of a running endpoint, over HTTP, as a client would.

Which precision the endpoint computes in depends on its processor, so an answer is right if it is the one that the bundle states
for fp32 or for a precision that it allows; but for all examples it must be the same one.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.deploy.target import Endpoint
from slipway.errors import DeployError, RequestError, ServerError
from slipway.export.bundle import Bundle
from slipway.export.golden import GoldenExample, expect_answer, find_fault, largest_difference
from slipway.export.precision import Precision
from slipway.serving.wire.v2 import write_request


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How an answer agrees with what is expected."""

    precisions: frozenset[Precision]
    """In which it is right; one or more."""
    difference: float
    """Largest absolute difference of a float from the answer in the nearest of them."""


def check_golden_examples(endpoint: Endpoint, bundle: Bundle, *, tolerance: float, timeout_seconds: float) -> float:
    """Ask for each golden example and compare the answers.

    Args:
        endpoint: Where the version answers.
        bundle: What it should answer from.
        tolerance: Largest absolute difference of a float that counts as the same answer in fp32; the bundle states it for the
            others. What is no float must be equal.
        timeout_seconds: For all examples together.

    Returns:
        The largest absolute difference of a float.

    Raises:
        DeployError: an answer is missing, late, wrong, or from another version.
    """
    if not bundle.golden:
        raise DeployError(
            f"{bundle.root} holds no golden examples, so nothing shows that it answers as it should. Export it again."
        )
    deadline = time.monotonic() + timeout_seconds
    largest = 0.0
    left: frozenset[Precision] | None = None
    for position, example in enumerate(bundle.golden):
        where = f"Golden example {position + 1} of {len(bundle.golden)}"
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise DeployError(
                f"{where} was not reached: the endpoint took more than {timeout_seconds:g} s (deploy.timeout_seconds)."
            )
        found = ask_example(endpoint, bundle, example, tolerance=tolerance, timeout_seconds=remaining, where=where)
        largest = max(largest, found.difference)
        left = found.precisions if left is None else left & found.precisions
        if not left:
            raise DeployError(
                f"{where} is answered in {_enumerate(found.precisions)}, an example before it in another precision. "
                "The served model is not the one that was evaluated."
            )
    return largest


def ask_example(
    endpoint: Endpoint, bundle: Bundle, example: GoldenExample, *, tolerance: float, timeout_seconds: float, where: str
) -> Agreement:
    """Ask for one golden example, of the endpoint's version and no other.

    Raises:
        DeployError: the answer is missing, late or wrong; the message begins with `where`.
    """
    url = f"{endpoint.url}/v2/models/{endpoint.model_name}/versions/{endpoint.version}/infer"
    try:
        answer = endpoint.send(url, write_request(example.inputs, bundle.info.signature), timeout_seconds=timeout_seconds)
    except (RequestError, ServerError) as error:
        raise DeployError(f"{where} was not answered: {error}") from None
    try:
        outputs = _read_outputs(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeployError(
            f"{where}: the answer is not of the Open Inference Protocol ({error!r}): {json.dumps(answer)[:200]}"
        ) from None
    return _compare(outputs, bundle, example, tolerance, where)


def _read_outputs(answer: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {output["name"]: _read_output(output) for output in answer["outputs"]}


def _read_output(output: dict[str, Any]) -> NDArray[Any]:
    is_text = output["datatype"] == "BYTES"
    # A NaN comes as null, which numpy makes a NaN of.
    return np.array(output["data"], dtype=object if is_text else np.float64).reshape(output["shape"])


def _compare(outputs: dict[str, NDArray[Any]], bundle: Bundle, example: GoldenExample, tolerance: float, where: str) -> Agreement:
    stated = bundle.info.precisions
    allowed: list[Precision] = ["fp32", *(info.precision for info in stated if info.kept)]
    expected = [expect_answer(example, stated, precision, fp32_tolerance=tolerance) for precision in allowed]
    faults = {entry.precision: find_fault(outputs, entry) for entry in expected}
    right = [entry for entry in expected if not faults[entry.precision]]
    if not right:
        reduced = "" if len(faults) == 1 else f" In {_enumerate(set(faults) - {'fp32'})} it is not the right answer either."
        raise DeployError(
            f"{where}, {faults['fp32']} (deploy.smoke_tolerance).{reduced} The served model is not the one that was evaluated."
        )
    difference = min(largest_difference(outputs, entry.outputs) for entry in right)
    return Agreement(precisions=frozenset(entry.precision for entry in right), difference=difference)


def _enumerate(precisions: Iterable[Precision]) -> str:
    return " or ".join(sorted(precisions))
