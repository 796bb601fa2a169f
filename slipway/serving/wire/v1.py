"""The V1 protocol of KServe and TensorFlow Serving: instances in, predictions out."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slipway.data.images import Pixels
from slipway.engines.engine import Arrays
from slipway.errors import RequestError
from slipway.export.signature import Signature, TensorSpec, show_shape
from slipway.serving.wire.answers import parse_top_k, to_predictions
from slipway.serving.wire.images import ImageReader, check_num_sizes, find_image_spec, stack_images
from slipway.serving.wire.json_body import parse_object, reading
from slipway.serving.wire.request import InferRequest
from slipway.serving.wire.rows import RowPolicy, read_columns, read_rows, takes_columns
from slipway.serving.wire.tensors import MAX_SAMPLES, convert, fast_array, loose_array
from slipway.serving.wire.wording import show

_ACCEPTED = '{"instances": [...]} or {"inputs": {...}}'
_REFUSE_UNKNOWN = RowPolicy()
_GREY_RANK = 2


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What the model takes, and how it is read."""

    signature: Signature
    policy: RowPolicy
    image_min_side: int | None


def parse_request(
    body: bytes,
    signature: Signature,
    *,
    policy: RowPolicy = _REFUSE_UNKNOWN,
    top_k: int = 0,
    image_min_side: int | None = None,
) -> InferRequest:
    """Parse the JSON body of a predict request.

    Args:
        body: JSON.
        signature: Of the model.
        policy: What becomes of columns that a model of tables does not know.
        top_k: What the query says of it, where the body says nothing.
        image_min_side: Of the bundle.

    Raises:
        RequestError: it is not what `signature` accepts; the message names the field and what is accepted.
    """
    with reading(body):
        content = parse_object(body, _ACCEPTED)
        if ("instances" in content) == ("inputs" in content):
            told = "both instances and" if "inputs" in content else "neither instances nor"
            raise RequestError(f"The body has {told} inputs; accepted: {_ACCEPTED}.")
        top_k = parse_top_k(content.get("top_k"), "top_k") or top_k
        model = _Accepted(signature, policy, image_min_side)
        if "instances" in content:
            request = _parse_instances(content["instances"], model, "instances")
        else:
            request = _parse_columnar(content["inputs"], model)
        return InferRequest(parts=request.parts, places=request.places, top_k=top_k)


def write_response(request: InferRequest, outputs: Arrays, *, signature: Signature, class_names: tuple[str, ...]) -> bytes:
    """The answer: a prediction for each sample."""
    predictions = to_predictions(outputs, signature, class_names, request.top_k)
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def _parse_columnar(inputs: object, model: _Accepted) -> InferRequest:
    signature, policy = model.signature, model.policy
    if takes_columns(signature) and isinstance(inputs, dict):
        return InferRequest(parts=(read_columns(inputs, signature, policy, "inputs"),))
    specs = {spec.name: spec for spec in signature.inputs}
    if isinstance(inputs, dict) and inputs.keys() == specs.keys():
        if len(specs) == 1:
            return _parse_instances(next(iter(inputs.values())), model, f"inputs.{next(iter(specs))}")
        return _gather({name: _check_samples(values, f"inputs.{name}") for name, values in inputs.items()}, signature, "inputs.")
    if len(specs) == 1 and isinstance(inputs, list):
        return _parse_instances(inputs, model, "inputs")
    raise RequestError(f"inputs is {show(inputs)}; accepted: an object with a list for each of {', '.join(specs)}.")


def _parse_instances(instances: object, model: _Accepted, where: str) -> InferRequest:
    signature, policy = model.signature, model.policy
    samples = _check_samples(instances, where)
    if takes_columns(signature):
        return InferRequest(parts=(read_rows(samples, signature, policy, where),))
    image = find_image_spec(signature)
    if image is not None:
        return _parse_images(samples, image, model.image_min_side, where)
    if len(signature.inputs) == 1:
        name = signature.inputs[0].name
        values = [sample[name] if isinstance(sample, dict) and sample.keys() == {name} else sample for sample in samples]
        return _gather({name: values}, signature, f"{where}, ")
    names = {spec.name for spec in signature.inputs}
    for place, sample in enumerate(samples):
        if not isinstance(sample, dict) or sample.keys() != names:
            raise RequestError(f"{where}[{place}] is {show(sample)}; accepted: an object with {', '.join(sorted(names))}.")
    return _gather({name: [sample[name] for sample in samples] for name in names}, signature, f"{where}, ")


def _check_samples(samples: object, where: str) -> list[Any]:
    if not isinstance(samples, list) or not 1 <= len(samples) <= MAX_SAMPLES:
        raise RequestError(f"{where} is {show(samples)}; accepted: a list of 1 to {MAX_SAMPLES} samples.")
    return samples


def _gather(values: dict[str, list[Any]], signature: Signature, where: str) -> InferRequest:
    arrays = {spec.name: _to_samples(values[spec.name], spec, f"{where}{spec.name}") for spec in signature.inputs}
    if len({array.shape[0] for array in arrays.values()}) > 1:
        raise RequestError(f"The inputs {', '.join(arrays)} have different numbers of samples; accepted: the same in each.")
    return InferRequest(parts=(arrays,))


def _to_samples(values: list[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    """Samples that all have the shape of `spec`."""
    loose = _read_array(values, spec, where)
    wanted = spec.shape[1:]
    if loose.ndim == 1 and all(size == 1 for size in wanted):
        loose = loose.reshape((len(values), *([1] * len(wanted))))
    if not spec.fits(loose.shape):
        accepted = f"{show_shape(spec.shape)} with the samples in front"
        raise RequestError(f"{where} holds samples of the shape {list(loose.shape[1:])}; accepted: {accepted}.")
    return convert(loose, spec, where)


def _parse_images(samples: list[Any], spec: TensorSpec, min_side: int | None, where: str) -> InferRequest:
    values = [sample[spec.name] if isinstance(sample, dict) and sample.keys() == {spec.name} else sample for sample in samples]
    if len(values) > 1 and all(isinstance(value, list) for value in values):
        request = _stack_by_size(values, spec)
        if request is not None:
            return request
    reader = ImageReader(spec, min_side=min_side)
    return stack_images([_parse_one(value, spec, reader, f"{where}[{place}]") for place, value in enumerate(values)], spec)


def _stack_by_size(values: list[Any], spec: TensorSpec) -> InferRequest | None:
    """Nested lists of pixels, those of one size at once; None where something is wrong with one of them.

    Raises:
        RequestError: they have too many different sizes.
    """
    sizes: dict[tuple[int, int], list[int]] = {}
    for place, value in enumerate(values):
        size = len(value), len(value[0]) if value and isinstance(value[0], list) else 0
        sizes.setdefault(size, []).append(place)
    check_num_sizes(len(sizes))
    parts = []
    for places in sizes.values():
        pixels = _stack_equal([values[place] for place in places], spec)
        if pixels is None:
            return None
        parts.append({spec.name: pixels})
    return InferRequest(parts=tuple(parts), places=tuple(map(tuple, sizes.values())))


def _stack_equal(values: list[Any], spec: TensorSpec) -> NDArray[Any] | None:
    """Nested lists of equal size at once; None where they are not, or something is wrong with one of them."""
    try:
        pixels = _add_channel(_read_array(values, spec, ""), spec, 1)
        return convert(pixels, spec, "") if spec.fits(pixels.shape) else None
    except (ValueError, OverflowError):  # RequestError is one
        return None


def _parse_one(value: Any, spec: TensorSpec, reader: ImageReader, where: str) -> Pixels:
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return reader.read(_decode_base64(value["b64"], where), f"The image {where}")
    if not isinstance(value, list):
        raise RequestError(
            f'{where} is {show(value)}; accepted: {{"b64": "..."}} with a JPEG, PNG or WebP file, or nested lists of pixels.'
        )
    pixels = _add_channel(_read_array(value, spec, where), spec, 0)
    if not spec.fits((1, *pixels.shape)):
        raise RequestError(f"{where} is nested as {list(pixels.shape)}; accepted: {show_shape(spec.shape[1:])}.")
    return convert(pixels, spec, where)


def _read_array(values: list[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    fast = fast_array(values, spec.dtype)
    return loose_array(values, spec, where) if fast is None else fast


def _add_channel(pixels: NDArray[Any], spec: TensorSpec, num_leading: int) -> NDArray[Any]:
    return pixels[..., np.newaxis] if spec.shape[3] == 1 and pixels.ndim == _GREY_RANK + num_leading else pixels


def _decode_base64(text: object, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else _refuse_base64(text, where)
    except (binascii.Error, ValueError):
        return _refuse_base64(text, where)


def _refuse_base64(text: object, where: str) -> bytes:
    raise RequestError(f"{where}.b64 is {show(text)}; accepted: an image file in base64.")
