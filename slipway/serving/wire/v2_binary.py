"""Raw tensors behind the JSON of a V2 request or answer: the binary tensor data extension.

Numbers stand in row-major order, little-endian. Each string has its length in bytes before it, as 4 bytes, little-endian.
"""

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import RequestError
from slipway.export.signature import TensorSpec
from slipway.serving.wire.tensors import check_floats
from slipway.serving.wire.wording import show

_LENGTH = struct.Struct("<I")
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype("<u1"), "float32": np.dtype("<f4"), "int64": np.dtype("<i8")}


class Tail:
    """What stands behind the JSON, taken tensor by tensor."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def take(self, size: object, spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
        """The next `size` bytes as the tensor that `spec` describes.

        Raises:
            RequestError: `size` is not what the shape needs, or there are fewer bytes left.
        """
        return read_raw(self.skip(size, where), spec, shape, where)

    def skip(self, size: object, where: str) -> memoryview:
        """The next `size` bytes, whatever they are; raises as `take` does."""
        if type(size) is not int or size < 0:
            raise RequestError(f"{where}.parameters.binary_data_size is {show(size)}; accepted: a number of bytes.")
        left = len(self._data) - self._position
        if size > left:
            raise RequestError(f"{where}.parameters.binary_data_size is {size}; {left} bytes are left behind the JSON.")
        data = self._data[self._position : self._position + size]
        self._position += size
        return data

    def check_end(self) -> None:
        """Raise RequestError unless all of it was taken."""
        left = len(self._data) - self._position
        if left:
            raise RequestError(
                f"{left} bytes behind the JSON belong to no input; accepted: those that the inputs' binary_data_size add up to."
            )


def split_body(body: bytes, json_size: int | None) -> tuple["bytes | memoryview", Tail]:
    """(the JSON, what stands behind it).

    Raises:
        RequestError: `json_size` is more than there is.
    """
    if json_size is None:
        return body, Tail(memoryview(b""))
    if not 0 < json_size <= len(body):
        raise RequestError(
            f"The header Inference-Header-Content-Length is {json_size} and the body has {len(body)} bytes; "
            "accepted: the size of the body's JSON."
        )
    view = memoryview(body)
    return view[:json_size], Tail(view[json_size:])


def read_raw(data: memoryview, spec: TensorSpec, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Raw bytes as an array of `shape`, which `spec` accepts. Numbers are not copied where they are aligned.

    Raises:
        RequestError: they are too few or too many, or hold a value that is not accepted.
    """
    count = math.prod(shape)
    if spec.dtype == "string":
        return np.array(_read_strings(data, count, where), dtype=object).reshape(shape)
    dtype = _DTYPES[spec.dtype]
    if len(data) != count * dtype.itemsize:
        raise RequestError(f"{where} has {len(data)} bytes; its shape {list(shape)} takes {count * dtype.itemsize}.")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    if not array.flags.aligned:
        array = array.copy()
    return check_floats(array, spec, where) if spec.dtype == "float32" else array


def to_bytes(array: NDArray[Any]) -> bytes:
    """An array as it stands behind an answer's JSON."""
    if array.dtype == object:
        strings = (value.encode() for value in array.ravel())
        return b"".join(part for value in strings for part in (_LENGTH.pack(len(value)), value))
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def _read_strings(data: memoryview, count: int, where: str) -> list[str]:
    strings: list[str] = []
    position = 0
    for _ in range(count):
        if position == len(data):
            raise RequestError(f"{where} has {len(strings)} strings; its shape takes {count}.")
        end = position + _LENGTH.size
        if end > len(data):
            raise RequestError(f"{where} breaks off in a string's length; accepted: 4 bytes before each string.")
        (length,) = _LENGTH.unpack(data[position:end])
        position = end + length
        if position > len(data):
            raise RequestError(f"{where} says that a string has {length} bytes; {len(data) - end} are left.")
        try:
            strings.append(str(data[end:position], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(f"{where} holds a string that is not UTF-8.") from None
    if position < len(data):
        raise RequestError(f"{where} has {len(data) - position} bytes more than the strings that its shape takes.")
    return strings
