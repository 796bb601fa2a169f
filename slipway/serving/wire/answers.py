"""A classifier's probabilities in words: labels, the most probable classes; and names that are near to one that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec
from slipway.serving.wire.wording import show

_PROBABILITIES_RANK = 2
_SHOWN_NAMES = 20


def holds_probabilities(spec: TensorSpec) -> bool:
    """Whether an output is a classifier's [samples, classes]."""
    return spec.dtype == "float32" and len(spec.shape) == _PROBABILITIES_RANK


def parse_top_k(value: object, where: str) -> int:
    """A number of classes; 0 where none is given.

    Raises:
        RequestError: it is no such number.
    """
    if value is None:
        return 0
    if type(value) is not int or value < 1:
        raise RequestError(f"{where} is {show(value)}; accepted: a whole number of classes, 1 or more.")
    return value


def to_classification(probabilities: NDArray[Any], class_names: tuple[str, ...], top_k: int) -> NDArray[Any]:
    """`PROBABILITY:INDEX:LABEL` of each sample's most probable classes, the most probable first: object [samples, k]."""
    order = _most_probable(probabilities, top_k)
    rows = [
        [f"{float(row[index]):.6f}:{index}" + (f":{class_names[index]}" if class_names else "") for index in indices.tolist()]
        for row, indices in zip(probabilities, order, strict=True)
    ]
    return np.array(rows, dtype=object)


def to_predictions(outputs: Arrays, signature: Signature, class_names: tuple[str, ...], top_k: int) -> list[dict[str, Any]]:
    """V1's answer for each sample: the label and probabilities of a classifier, by name; else the outputs as they are."""
    spec = signature.outputs[0]
    if len(signature.outputs) != 1 or not holds_probabilities(spec) or len(class_names) != spec.shape[1]:
        samples = {name: array.tolist() for name, array in outputs.items()}
        return [dict(zip(samples, values, strict=True)) for values in zip(*samples.values(), strict=True)]
    predictions = []
    probabilities = outputs[spec.name]
    order = _most_probable(probabilities, top_k).tolist() if top_k else None
    for position, (row, best) in enumerate(zip(probabilities.tolist(), probabilities.argmax(axis=1).tolist(), strict=True)):
        chosen = (
            zip(class_names, row, strict=True)
            if order is None
            else ((class_names[index], row[index]) for index in order[position])
        )
        predictions.append({"label": class_names[best], "probability": row[best], "probabilities": dict(chosen)})
    return predictions


def suggest(name: object, known: Iterable[str]) -> str:
    """The names that are known, in a message, the nearest one first where there is one."""
    names = list(known)
    nearest = get_close_matches(name[:100], names, n=1) if isinstance(name, str) else []
    shown = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")
    return f"{shown} (is {nearest[0]!r} meant?)" if nearest and len(names) > 1 else shown


def _most_probable(probabilities: NDArray[Any], top_k: int) -> NDArray[np.intp]:
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
