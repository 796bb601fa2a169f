"""A form with files (multipart/form-data, RFC 7578): each file is an image, in order."""

from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

from slipway.errors import RequestError
from slipway.export.signature import Signature
from slipway.serving.wire.images import MAX_FILES, ImageReader, require_image_spec, stack_images
from slipway.serving.wire.request import InferRequest

_MAX_BOUNDARY_CHARACTERS = 200
_MAX_HEAD_BYTES = 2048
"""Of one part's headers, which are some 200, or more with a long name."""
_END = b"\r\n"


@dataclass(frozen=True, slots=True)
class _Part:
    headers: dict[bytes, bytes]
    content: bytes


def parse_images(body: bytes, content_type: str, signature: Signature, *, min_side: int | None = None) -> InferRequest:
    """Decode the files of a form into the inputs of a model that takes one image.

    Raises:
        RequestError: it is no such form, a field of it is no file, or a file is not an image that the model takes.
    """
    spec = require_image_spec(signature)
    reader = ImageReader(spec, min_side=min_side)
    images = [reader.read(data, f"The image {name}") for name, data in _read_files(body, content_type)]
    if not images:
        raise RequestError("The form holds no file; accepted: 1 or more JPEG, PNG or WebP files.")
    return stack_images(images, spec)


def _read_files(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    files = []
    for place, part in enumerate(_split(body, content_type)):
        disposition = part.headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        name = options.get(b"name", b"").decode(errors="replace")[:60]
        names_file = b"filename" in options or b"filename*=" in disposition.lower()  # which the package reads over
        if not names_file and not part.headers.get(b"content-type", b"").lower().startswith(b"image/"):
            raise RequestError(f"The form's field {name!r} is no file; accepted: JPEG, PNG or WebP files.")
        file_name = options.get(b"filename", b"").decode(errors="replace")[:60]
        files.append((f"{place + 1} of the form ({file_name or name})", part.content))
    return files


def _split(body: bytes, content_type: str) -> list[_Part]:
    """What stands between the boundaries (RFC 2046, 5.1.1); what stands before the first and behind the last is passed over."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_CHARACTERS:
        raise RequestError("The Content-Type names no boundary; accepted: multipart/form-data; boundary=...")
    _, *pieces = (_END + body).split(_END + b"--" + boundary, MAX_FILES + 1)
    if not pieces:
        raise RequestError("The body is not multipart/form-data: it does not hold the boundary that the Content-Type names.")
    num_parts = next((place for place, piece in enumerate(pieces) if piece.startswith(b"--")), None)
    if num_parts is None and len(pieces) > MAX_FILES:
        raise RequestError(f"The form has too many files; accepted: at most {MAX_FILES}.")
    if num_parts is None:
        raise RequestError("The form breaks off before its last boundary; accepted: all of it.")
    return [_read_part(piece, f"Part {place + 1} of the form") for place, piece in enumerate(pieces[:num_parts])]


def _read_part(piece: bytes, where: str) -> _Part:
    """A part from what stands behind its boundary."""
    place = piece.find(_END * 2, 0, _MAX_HEAD_BYTES)
    if place < 0:
        raise RequestError(f"{where} has no empty line behind its headers; accepted: one within {_MAX_HEAD_BYTES} bytes.")
    padding, *lines = piece[:place].split(_END)
    if padding.strip(b" \t"):
        raise RequestError(f"{where} begins with a line that is longer than the boundary; accepted: one that no file holds.")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise RequestError(f"{where} has a header without a colon; accepted: NAME: VALUE.")
        headers[name.lower()] = value.strip()
    return _Part(headers, piece[place + 2 * len(_END) :])
