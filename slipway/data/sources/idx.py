"""`idx://DIR`: the IDX files of MNIST and its family, gzipped or not.

The format (http://yann.lecun.com/exdb/mnist/): big-endian, a magic number (two zero bytes, 8 for unsigned bytes, the number of
dimensions), the size of each dimension as 32 bits, then the values.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from slipway.data.sources.base import SourceFile, SourceUri, copy_files, hash_files, require_folder
from slipway.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slipway.data.arrays import ArrayPart
    from slipway.data.raw import Origin, RawData

FORM = "idx://DIR"
OPTIONS = ("classes",)
_PATTERN = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?P<gz>\.gz)?")
_EXPECTED = "train-images-idx3-ubyte and train-labels-idx1-ubyte (or with .gz), and the same with t10k for a test set"
_DIMENSIONS = {"images": 3, "labels": 1}
_DEFAULT_CLASSES = 10
_MAX_CLASSES = 256
_MAX_SIDE = 4096
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The images and labels of one split."""

    origin: "Origin"
    images: str
    labels: str


def model_name(uri: SourceUri) -> str:
    """The folder's name; its parent's where it is called `raw`, as torchvision lays it out."""
    path = uri.path.absolute()
    return path.parent.name if path.name == "raw" else path.name


def compute_fingerprint(uri: SourceUri) -> str:
    """Of all files' bytes."""
    return hash_files(_find_files(uri), str(_num_classes(uri)))


def copy_source(uri: SourceUri, files_dir: Path) -> None:
    """Copy the two or four files as they are."""
    _num_classes(uri)
    copy_files(uri, _find_files(uri), files_dir)


def open_copy(uri: SourceUri, files_dir: Path) -> "RawData":
    """Images are streamed; labels are read at once."""
    import numpy as np

    from slipway.data.arrays import read_arrays

    parts = _pair_files(uri, [path.name for path in files_dir.iterdir()])
    num_classes = _num_classes(uri)
    labels = {part.labels: _read_labels(uri, files_dir / part.labels) for part in parts}
    values = np.unique(np.concatenate(list(labels.values())))
    present = values[values < num_classes]
    position = np.arange(_MAX_CLASSES)
    position[present] = np.arange(len(present))
    indexed = {name: position[entries] for name, entries in labels.items()}
    return read_arrays(tuple(map(str, present)), _Parts(uri, files_dir, parts, indexed))


class _Parts:
    """All images, a chunk at a time, as often as they are asked for."""

    def __init__(self, uri: SourceUri, files_dir: Path, parts: list[_Part], labels: "dict[str, NDArray[np.int64]]") -> None:
        self._uri, self._files_dir, self._parts, self._labels = uri, files_dir, parts, labels

    def __iter__(self) -> "Iterator[ArrayPart]":
        for part in self._parts:
            yield from self._read(part)

    def _read(self, part: _Part) -> "Iterator[ArrayPart]":
        import numpy as np

        from slipway.data.arrays import ArrayPart

        labels = self._labels[part.labels]
        name = _shown(self._uri, part.images)
        with _open_idx(name, self._files_dir / part.images) as stream:
            count, height, width = _read_header(name, stream, "images")
            if count != len(labels):
                raise DataError(
                    f"{name} holds {count} images, {_shown(self._uri, part.labels)} holds {len(labels)} labels. "
                    "They must belong together: get both files again from the same place."
                )
            if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
                raise DataError(
                    f"{name} says that its images are {height} x {width} pixels; accepted: 1 to {_MAX_SIDE} a side. "
                    "Get the file again."
                )
            per_chunk = max(1, _CHUNK_BYTES // (height * width))
            for start in range(0, count, per_chunk):
                items = min(per_chunk, count - start)
                values = _read_exactly(name, stream, items * height * width)
                images = np.frombuffer(values, np.uint8).reshape(items, height, width, 1)
                yield ArrayPart(name=name, origin=part.origin, images=images, labels=labels[start : start + items], start=start)
            _require_end(name, stream)


def _num_classes(uri: SourceUri) -> int:
    text = uri.options.get("classes", str(_DEFAULT_CLASSES))
    if not text.isdecimal() or not 2 <= int(text) <= _MAX_CLASSES:  # noqa: PLR2004
        raise DataError(f"{uri.text}: classes is {text!r}; accepted: 2 to {_MAX_CLASSES}.")
    return int(text)


def _shown(uri: SourceUri, name: str) -> str:
    return uri.show(name)


def _find_files(uri: SourceUri) -> list[SourceFile]:
    folder = require_folder(uri)
    parts = _pair_files(uri, [path.name for path in folder.iterdir()])
    return [SourceFile(name=name, path=folder / name) for part in parts for name in (part.images, part.labels)]


def _pair_files(uri: SourceUri, names: list[str]) -> list[_Part]:
    found: dict[tuple[str, str], str] = {}
    prefixes: set[str] = set()
    for name in sorted(names):  # the unpacked file of a name comes before its .gz and is taken
        match = _PATTERN.fullmatch(name)
        if match:
            part = "train" if match["part"] == "train" else "test"
            found.setdefault((part, match["kind"]), name)
            prefixes.add(match["prefix"])
    if len(prefixes) > 1:
        raise DataError(f"{uri.text} holds several data sets ({', '.join(sorted(prefixes))}). Put each into a folder of its own.")
    if ("train", "images") not in found and ("train", "labels") not in found:
        raise DataError(f"{uri.text}: {uri.show()} holds no IDX training files. Expected {_EXPECTED}.")
    for (part, kind), name in found.items():
        other = "labels" if kind == "images" else "images"
        if (part, other) not in found:
            raise DataError(f"{uri.text}: {uri.show()} holds {name} and not the {other} that belong to it. Expected {_EXPECTED}.")
    has_test = ("test", "images") in found
    parts = [_Part(origin="train" if has_test else "", images=found["train", "images"], labels=found["train", "labels"])]
    if has_test:
        parts.append(_Part(origin="test", images=found["test", "images"], labels=found["test", "labels"]))
    return parts


def _read_labels(uri: SourceUri, path: Path) -> "NDArray[np.uint8]":
    import numpy as np

    name = _shown(uri, path.name)
    with _open_idx(name, path) as stream:
        (count,) = _read_header(name, stream, "labels")
        values = _read_exactly(name, stream, count)
        _require_end(name, stream)
    if not count:
        raise DataError(f"{name} holds no labels. Get the file again.")
    return np.frombuffer(values, np.uint8)


@contextmanager
def _open_idx(name: str, path: Path) -> Iterator[IO[bytes]]:
    """Open an IDX file, packed or not; whatever is wrong with the packing is a DataError."""
    try:
        with path.open("rb") as stored:
            if path.suffix != ".gz":
                yield stored
                return
            with gzip.open(stored) as unpacked:
                yield cast(IO[bytes], unpacked)
    except EOFError:
        raise DataError(f"{name} is truncated: the gzip stream ends early. Get the file again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name} is not a valid gzip file ({error}). Get it again, or remove .gz if it is not packed.") from None


def _read_header(name: str, stream: IO[bytes], kind: str) -> tuple[int, ...]:
    dimensions = _DIMENSIONS[kind]
    expected = 0x0800 + dimensions
    magic = struct.unpack(">I", _read_exactly(name, stream, 4))[0]
    if magic != expected:
        hint = f" It holds {other}." if (other := _what_is(magic)) else ""
        raise DataError(
            f"{name} begins with the magic number 0x{magic:08x}; IDX {kind} begin with 0x{expected:08x}.{hint} "
            "Check that the file is what its name says, or get it again."
        )
    sizes: tuple[Any, ...] = struct.unpack(f">{dimensions}I", _read_exactly(name, stream, 4 * dimensions))
    return sizes


def _what_is(magic: int) -> str:
    if magic >> 16 == 0x1F8B:  # noqa: PLR2004
        return "gzipped data: add .gz to its name"
    return {0x0803: "images", 0x0801: "labels"}.get(magic, "")


def _read_exactly(name: str, stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{name} is truncated: it ends {size - len(content)} bytes early. Get the file again.")
    return content


def _require_end(name: str, stream: IO[bytes]) -> None:
    if stream.read(1):
        raise DataError(f"{name} is longer than its header says. Get the file again.")
