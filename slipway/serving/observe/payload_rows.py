"""The payload log's rows: one a sample, what was asked and answered as plain columns (docs/predictor.md names them)."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.data.manifest import PROBABILITIES
from slipway.export.signature import TensorSpec

if TYPE_CHECKING:
    from arro3.core import Array, Table

    from slipway.serving.inference.model import LoadedModel

SCHEMA_VERSION = "1"
_PREFIX = "input."
_BLOCK_PIXELS = 1 << 16
_HASH_LENGTH = 16
_MICROSECONDS = 1e6

Values = NDArray[Any] | list[Any]


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """Inputs that are not logged as they are."""

    dropped: frozenset[str] = frozenset()
    """Left out."""
    hashed: frozenset[str] = frozenset()
    """Replaced by a keyed hash: equal values stay equal, and cannot be read."""
    key: bytes = b""
    """Of the hashes."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request with its answer, as far as rows need it."""

    model: "LoadedModel"
    request_id: str
    protocol: str
    received_at: float
    """Seconds since 1970."""
    latency_seconds: float
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    num_rows: int
    num_bytes: int
    measured: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Figures of images, by input, once they are known."""


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    read: Callable[[Asked], Values]


class RowFormat:
    """The columns of one version of a model."""

    def __init__(self, model: "LoadedModel", redaction: Redaction, *, keep_images: bool = False) -> None:
        self.model = model
        self._columns = [*_list_facts(), *_list_answers(model)]
        for spec in model.info.signature.inputs:
            if spec.name not in redaction.dropped:
                self._columns += _list_inputs(spec, redaction, keep_images=keep_images)

    def read(self, asked: Asked) -> list[Values]:
        """The rows of a request, by column."""
        return [column.read(asked) for column in self._columns]

    def to_table(self, parts: Sequence[Sequence[Values]]) -> "Table":
        """The rows of several `read`s, in order."""
        from arro3.core import Table

        columns = zip(*parts, strict=True)
        return Table.from_pydict(
            {column.name: _to_array(column.kind, values) for column, values in zip(self._columns, columns, strict=True)}
        )


def _list_facts() -> list[_Column]:
    def repeat(read: Callable[[Asked], Any], asked: Asked) -> list[Any]:
        return [read(asked)] * asked.num_rows

    facts: list[tuple[str, str, Callable[[Asked], Any]]] = [
        ("time", "time", lambda asked: round(asked.received_at * _MICROSECONDS)),
        ("request_id", "string", lambda asked: asked.request_id),
        ("protocol", "string", lambda asked: asked.protocol),
        ("model", "string", lambda asked: asked.model.name),
        ("version", "string", lambda asked: asked.model.version),
        ("bundle_id", "string", lambda asked: asked.model.info.bundle_id),
        ("latency_seconds", "float64", lambda asked: asked.latency_seconds),
    ]
    columns = [_Column(name, kind, partial(repeat, read)) for name, kind, read in facts]
    columns.insert(2, _Column("row", "int32", lambda asked: np.arange(asked.num_rows, dtype=np.int32)))
    return columns


def _list_answers(model: "LoadedModel") -> list[_Column]:
    if PROBABILITIES not in {spec.name for spec in model.info.signature.outputs}:
        return [
            _Column(f"output.{spec.name}", f"list {spec.dtype}", partial(_read_output, spec.name))
            for spec in model.info.signature.outputs
        ]
    names = np.array(model.info.class_names, dtype=object)
    return [
        _Column("predicted_class", "string", lambda asked: list(names[asked.outputs[PROBABILITIES].argmax(axis=1)])),
        _Column("probability", "float32", lambda asked: asked.outputs[PROBABILITIES].max(axis=1)),
        _Column(PROBABILITIES, "list float32", lambda asked: list(asked.outputs[PROBABILITIES])),
    ]


def _read_output(name: str, asked: Asked) -> list[Any]:
    return [value.ravel() for value in asked.outputs[name]]


def _list_inputs(spec: TensorSpec, redaction: Redaction, *, keep_images: bool) -> list[_Column]:
    name, source = _PREFIX + spec.name, spec.name
    if source in redaction.hashed:
        return [_Column(name, "string", lambda asked: [_hash(value, redaction.key) for value in asked.inputs[source]])]
    if spec.is_image:
        return _list_image(spec, keep_images=keep_images)
    if len(spec.shape) == 1:
        return [_Column(name, spec.dtype, lambda asked: asked.inputs[source])]
    return [_Column(name, f"list {spec.dtype}", lambda asked: [value.ravel() for value in asked.inputs[source]])]


def _list_image(spec: TensorSpec, *, keep_images: bool) -> list[_Column]:
    source, name = spec.name, _PREFIX + spec.name
    columns = [
        _Column(f"{name}.height", "int32", lambda asked: [image.shape[0] for image in asked.inputs[source]]),
        _Column(f"{name}.width", "int32", lambda asked: [image.shape[1] for image in asked.inputs[source]]),
    ]
    columns += [
        _Column(f"{name}.{figure}_{channel}", "float32", partial(_read_figure, source, place, channel))
        for place, figure in enumerate(("mean", "std"))
        for channel in range(spec.shape[3] or 0)
    ]
    if keep_images:
        columns.append(_Column(f"{name}.pixels", "binary", lambda asked: [image.tobytes() for image in asked.inputs[source]]))
    return columns


def _read_figure(source: str, place: int, channel: int, asked: Asked) -> NDArray[Any]:
    if source not in asked.measured:
        asked.measured[source] = np.stack([_measure_image(image) for image in asked.inputs[source]])
    return asked.measured[source][:, place, channel]


def _measure_image(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean and standard deviation of an image's values, 0 to 255 [2, channels]; in blocks, so that a large one needs no room."""
    pixels = image.reshape(-1, image.shape[-1])
    total, squares = np.zeros(pixels.shape[1]), np.zeros(pixels.shape[1])
    for start in range(0, len(pixels), _BLOCK_PIXELS):
        block = pixels[start : start + _BLOCK_PIXELS].astype(np.float64)
        total += block.sum(axis=0)
        squares += np.einsum("ij,ij->j", block, block)
    mean = total / len(pixels)
    return np.stack([mean, np.sqrt(np.maximum(squares / len(pixels) - mean**2, 0.0))])


def _hash(value: Any, key: bytes) -> str | None:
    if value is None:
        return None
    content = value.encode() if isinstance(value, str) else np.asarray(value).tobytes()
    return hmac.digest(key, content, hashlib.sha256).hex()[:_HASH_LENGTH]


def _to_array(kind: str, parts: Sequence[Values]) -> "Array":
    from arro3.core import Array, DataType, list_array

    if kind.startswith("list "):
        items = [item for part in parts for item in part]
        offsets = np.cumsum([0, *(len(item) for item in items)], dtype=np.int32)
        return list_array(Array.from_numpy(offsets), _to_array(kind.removeprefix("list "), items))
    if kind in ("string", "binary"):
        data_type = DataType.string() if kind == "string" else DataType.binary()
        return Array([value for part in parts for value in part], type=data_type)
    if kind == "time":
        whole = Array.from_numpy(np.concatenate(parts).astype(np.int64))
        return whole.cast(DataType.timestamp("us", tz="UTC"))
    return Array.from_numpy(np.ascontiguousarray(np.concatenate(parts).astype(kind)))
