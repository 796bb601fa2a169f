"""How many fields a request consists of, counted in its bytes: once it is parsed, an empty tensor of 2 bytes takes 90."""

from slipway.errors import RequestError
from slipway.serving.grpc.messages import ModelInferRequest

MAX_FIELDS = 65_536
"""Of a request and its tensors. The values of a tensor count as one."""
_FEW_BYTES = 65_536
"""A request of so many takes little memory, whatever it holds."""
_VARINT, _SIZED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_GROUP_DEPTHS = {3: 1, 4: -1}
"""A group of an unknown field begins and ends: the parser skips all that is in it."""
_TENSORS = tuple(ModelInferRequest.DESCRIPTOR.fields_by_name[name].number << 3 | _SIZED for name in ("inputs", "outputs"))
_VARINT_BITS = 64


def check_num_fields(body: bytes) -> None:
    """Raise RequestError where a ModelInferRequest has more than `MAX_FIELDS`. What else is wrong with it the parser finds."""
    if len(body) <= _FEW_BYTES:
        return
    position = tensor_end = depth = 0
    for _ in range(MAX_FIELDS):
        if position >= len(body):
            return
        tag, position = _read_varint(body, position)
        number, kind = tag >> 3, tag & 7
        if not number:  # the parser goes no further
            return
        if kind == _VARINT:
            _, position = _read_varint(body, position)
        elif kind == _SIZED:
            size, position = _read_varint(body, position)
            if tag in _TENSORS and position > tensor_end and not depth:
                tensor_end = position + size  # and go on with what is in it
            else:
                position += size
        else:
            position += _FIXED_BYTES.get(kind, 0)
            depth += _GROUP_DEPTHS.get(kind, 0)
    if position < len(body):
        raise RequestError(
            f"The request has too many fields; accepted: at most {MAX_FIELDS}, those of its tensors and parameters among them."
        )


def _read_varint(body: bytes, position: int) -> tuple[int, int]:
    """(a number, where it ends)."""
    number = 0
    for shift in range(0, _VARINT_BITS, 7):
        if position >= len(body):
            break
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the others have one behind them
            break
    return number, position
