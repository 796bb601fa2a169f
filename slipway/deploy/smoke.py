"""The golden examples asked of a running endpoint, over HTTP, as a client would."""

import json
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.deploy.target import Endpoint
from slipway.errors import DeployError, RequestError, ServerError
from slipway.export.bundle import Bundle, GoldenExample
from slipway.serving.protocol import write_request


def check_golden_examples(endpoint: Endpoint, bundle: Bundle, *, tolerance: float, timeout_seconds: float) -> float:
    """Ask for each golden example and compare the answers.

    Args:
        endpoint: Where the version answers.
        bundle: What it should answer from.
        tolerance: Largest absolute difference of a float that counts as the same answer; the rest must be equal.
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
    for position, example in enumerate(bundle.golden):
        where = f"Golden example {position + 1} of {len(bundle.golden)}"
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise DeployError(
                f"{where} was not reached: the endpoint took more than {timeout_seconds:g} s (deploy.timeout_seconds)."
            )
        largest = max(
            largest, ask_example(endpoint, bundle, example, tolerance=tolerance, timeout_seconds=remaining, where=where)
        )
    return largest


def ask_example(
    endpoint: Endpoint, bundle: Bundle, example: GoldenExample, *, tolerance: float, timeout_seconds: float, where: str
) -> float:
    """Ask for one golden example, of the endpoint's version and no other; the largest absolute difference of a float.

    Raises:
        DeployError: the answer is missing, late or wrong; the message begins with `where`.
    """
    url = f"{endpoint.url}/v2/models/{endpoint.model_name}/versions/{endpoint.version}/infer"
    try:
        answer = endpoint.send(url, write_request(example.inputs, bundle.info.signature), timeout_seconds=timeout_seconds)
    except (RequestError, ServerError) as error:
        raise DeployError(f"{where} was not answered: {error}") from None
    try:
        return _compare(answer, example, tolerance, where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeployError(
            f"{where}: the answer is not of the Open Inference Protocol ({error!r}): {json.dumps(answer)[:200]}"
        ) from None


def _compare(answer: dict[str, Any], example: GoldenExample, tolerance: float, where: str) -> float:
    given = {output["name"]: output for output in answer["outputs"]}
    if set(given) != set(example.outputs):
        raise DeployError(f"{where}: the outputs are {', '.join(given)}; expected: {', '.join(example.outputs)}.")
    return max(
        _compare_output(given[name], expected, tolerance, f"{where}, {name}") for name, expected in example.outputs.items()
    )


def _compare_output(output: dict[str, Any], expected: NDArray[Any], tolerance: float, where: str) -> float:
    if output["shape"] != list(expected.shape):
        raise DeployError(f"{where}: the shape is {output['shape']}; expected: {list(expected.shape)}.")
    if expected.dtype.kind != "f":
        if output["data"] != expected.ravel().tolist():
            raise DeployError(
                f"{where}: the answer is {json.dumps(output['data'])[:200]}; expected: {expected.ravel().tolist()!r:.200}."
            )
        return 0.0
    values = np.array(output["data"], dtype=np.float64)
    difference = float(np.abs(values - expected.ravel().astype(np.float64)).max(initial=0.0))
    if not (math.isfinite(difference) and difference <= tolerance):
        raise DeployError(
            f"{where}: the answer differs by {difference:.3g}; accepted: {tolerance:g} (deploy.smoke_tolerance). "
            "The served model is not the one that was evaluated."
        )
    return difference
