"""A form with files (multipart/form-data): each file is an image, in order."""

import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from slipway.errors import RequestError
from slipway.export.signature import Signature
from slipway.serving.wire.images import ImageReader, require_image_spec, stack_images
from slipway.serving.wire.request import InferRequest

MAX_FILES = 1024
_MAX_BOUNDARY_CHARACTERS = 200

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it warns of each damaged form; its sender is told


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)


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
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")[:60]
        if b"filename" not in options and not part.headers.get(b"content-type", b"").startswith(b"image/"):
            raise RequestError(f"The form's field {name!r} is no file; accepted: JPEG, PNG or WebP files.")
        file_name = options.get(b"filename", b"").decode(errors="replace")[:60]
        files.append((f"{place + 1} of the form ({file_name or name})", b"".join(part.chunks)))
    return files


def _split(body: bytes, content_type: str) -> list[_Part]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_CHARACTERS:
        raise RequestError("The Content-Type names no boundary; accepted: multipart/form-data; boundary=...")
    parts: list[_Part] = []
    name, value = bytearray(), bytearray()
    ended = False

    def begin_part() -> None:
        if len(parts) == MAX_FILES:
            raise RequestError(f"The form has too many files; accepted: at most {MAX_FILES}.")
        parts.append(_Part())

    def end_header() -> None:
        parts[-1].headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end_form() -> None:
        nonlocal ended
        ended = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin_part,
            "on_header_field": lambda data, start, end: name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": end_header,
            "on_part_data": lambda data, start, end: parts[-1].chunks.append(data[start:end]),
            "on_end": end_form,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise RequestError(f"The body is not multipart/form-data ({error}).") from None
    if not ended:
        raise RequestError("The form breaks off before its last boundary; accepted: all of it.")
    return parts
