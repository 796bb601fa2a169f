"""A request that the model's signature accepts, whatever form it came in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.engines.engine import Arrays
from slipway.export.signature import Signature
from slipway.serving.wire.answers import holds_probabilities


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedOutput:
    """One output that is to be answered with."""

    name: str
    binary: bool = False
    top_k: int = 0
    """The most probable classes, that many, in place of the tensor; 0 for the tensor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """What to predict from, and what to answer with."""

    parts: tuple[Arrays, ...]
    """Samples that can go together: one part, but for images of several sizes."""
    places: tuple[tuple[int, ...], ...] = ()
    """Where the samples of each part stand in the request, where there are several."""
    id: str | None = None
    outputs: tuple[WantedOutput, ...] = ()
    """V2: in the order to answer with."""
    top_k: int = 0
    """V1: only the most probable classes, that many; 0 for all."""
    timeout_seconds: float | None = None
    """That the client waits for the answer, where the body says so."""

    @property
    def inputs(self) -> Arrays:
        """The one part.

        Raises:
            SeveralParts: there are more.
        """
        if len(self.parts) > 1:
            raise SeveralParts(self)
        return self.parts[0]


class SeveralParts(Exception):  # noqa: N818  # no error: the request is to be taken part by part
    """A request whose samples cannot go together."""

    def __init__(self, request: InferRequest) -> None:
        super().__init__()
        self.request = request


def all_outputs(signature: Signature, *, binary: bool = False, top_k: int = 0) -> tuple[WantedOutput, ...]:
    """What a request is answered with that asks for no output in particular; `top_k` is of those that hold probabilities."""
    return tuple(
        WantedOutput(name=spec.name, binary=binary, top_k=top_k if holds_probabilities(spec) else 0) for spec in signature.outputs
    )


def merge_inputs(request: InferRequest) -> Arrays:
    """The inputs of all parts, in the order of the request's samples; where there are several, object arrays of samples."""
    if len(request.parts) == 1:
        return request.parts[0]
    merged: dict[str, NDArray[Any]] = {}
    for name in request.parts[0]:
        merged[name] = np.empty(sum(map(len, request.places)), dtype=object)
        for part, places in zip(request.parts, request.places, strict=True):
            for place, sample in zip(places, part[name], strict=True):
                merged[name][place] = sample
    return merged


def merge_outputs(request: InferRequest, parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """The outputs of all parts, in the order of the request's samples."""
    order = np.argsort(np.concatenate([np.asarray(places) for places in request.places]), kind="stable")
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
