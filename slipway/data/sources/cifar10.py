"""`cifar10://DIR`: the Python version of CIFAR-10, packed or unpacked (https://www.cs.toronto.edu/~kriz/cifar.html).

Its files are pickles. They are read with an unpickler that builds numpy arrays and plain values and refuses everything else;
archive members are picked by name and never extracted to a path that the archive chooses.
"""

import pickle
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from slipway.data.sources.base import SourceFile, SourceUri, copy_files, hash_files
from slipway.errors import DataError

if TYPE_CHECKING:
    from slipway.data.arrays import ArrayPart
    from slipway.data.raw import Origin, RawData

FORM = "cifar10://DIR"
OPTIONS: tuple[str, ...] = ()
_ARCHIVE = "cifar-10-python.tar.gz"
_FOLDER = "cifar-10-batches-py"
_TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST_BATCH = "test_batch"
_META = "batches.meta"
_FILES = (*_TRAIN_BATCHES, _TEST_BATCH, _META)
_REMEDY = f"Get {_ARCHIVE} again."
_SIDE, _CHANNELS = 32, 3


def model_name(uri: SourceUri) -> str:  # noqa: ARG001 (every such source is the same data set)
    """`cifar10`."""
    return "cifar10"


def compute_fingerprint(uri: SourceUri) -> str:
    """Of the archive's or the files' bytes."""
    found = _find(uri)
    return hash_files([SourceFile(name=_ARCHIVE, path=found)] if found.is_file() else _list_folder(found))


def copy_source(uri: SourceUri, files_dir: Path) -> None:
    """Copy the seven files, unpacked."""
    found = _find(uri)
    if found.is_dir():
        copy_files(uri, _list_folder(found), files_dir)
    else:
        _unpack(found, files_dir)


def open_copy(uri: SourceUri, files_dir: Path) -> "RawData":
    """Images are read a batch at a time."""
    from slipway.data.arrays import read_arrays

    meta = _unpickle(_shown(uri, _META), files_dir / _META)
    names = meta.get("label_names")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):  # noqa: PLR2004
        raise DataError(f"{_shown(uri, _META)} names no classes (`label_names`). {_REMEDY}")
    return read_arrays(tuple(names), _Batches(uri, files_dir))


class _Batches:
    """All batches, one in memory at a time, as often as they are asked for."""

    def __init__(self, uri: SourceUri, files_dir: Path) -> None:
        self._uri, self._files_dir = uri, files_dir

    def __iter__(self) -> "Iterator[ArrayPart]":
        for name in (*_TRAIN_BATCHES, _TEST_BATCH):
            yield _read_batch(_shown(self._uri, name), self._files_dir / name, is_test=name == _TEST_BATCH)


def _find(uri: SourceUri) -> Path:
    """The archive, or the folder that holds the unpacked files."""
    path = uri.path
    if path.is_file():
        return path
    if not path.exists():
        raise DataError(f"{uri.text}: {path} does not exist. Correct the path in data.source.")
    for candidate in (path, path / _FOLDER):
        if any((candidate / name).exists() for name in _FILES):
            return candidate
    if (path / _ARCHIVE).is_file():
        return path / _ARCHIVE
    raise DataError(f"{uri.text}: {path} holds neither {_ARCHIVE} nor {_FOLDER}/. Put the Python version of CIFAR-10 there.")


def _list_folder(folder: Path) -> list[SourceFile]:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: it was not unpacked to the end. Unpack {_ARCHIVE} again.")
    return [SourceFile(name=name, path=folder / name) for name in _FILES]


def _shown(uri: SourceUri, name: str) -> str:
    is_archive = uri.path.name.endswith(".tar.gz") if uri.is_remote else uri.path.is_file()
    return f"{uri.show()}: {name}" if is_archive else uri.show(name)


def _unpack(archive: Path, files_dir: Path) -> None:
    found: set[str] = set()
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = Path(member.name).name
                if not member.isfile() or name not in _FILES or name in found:
                    continue
                found.add(name)
                source = members.extractfile(member)
                if source is not None:
                    with source, (files_dir / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
                if (files_dir / name).stat().st_size != member.size:
                    raise DataError(f"{archive} is truncated in {name}. {_REMEDY}")
    except (EOFError, tarfile.TarError, zlib.error) as error:
        first_line = str(error).partition("\n")[0].rstrip(":")
        raise DataError(f"{archive} is truncated or is no tar archive ({first_line}). {_REMEDY}") from None
    missing = [name for name in _FILES if name not in found]
    if missing:
        raise DataError(
            f"{archive} lacks {', '.join(missing)}: it is truncated or is not the Python version of CIFAR-10. {_REMEDY}"
        )


def _read_batch(name: str, path: Path, is_test: bool) -> "ArrayPart":
    import numpy as np

    from slipway.data.arrays import ArrayPart

    content = _unpickle(name, path)
    data, labels = content.get("data"), content.get("labels")
    row_values = _CHANNELS * _SIDE * _SIDE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row_values:  # noqa: PLR2004
        raise DataError(f"{name} holds no images: `data` must be a uint8 array of [images, {row_values}]. {_REMEDY}")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise DataError(f"{name} holds no labels: `labels` must be a list of whole numbers. {_REMEDY}")
    if len(data) != len(labels):
        raise DataError(f"{name} holds {len(data)} images and {len(labels)} labels. They must belong together. {_REMEDY}")
    images = np.ascontiguousarray(data.reshape(-1, _CHANNELS, _SIDE, _SIDE).transpose(0, 2, 3, 1))
    origin: Origin = "test" if is_test else "train"
    return ArrayPart(name=name, origin=origin, images=images, labels=np.array(labels, np.int64))


def _unpickle(name: str, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = _RestrictedUnpickler(stream, name).load()
    except DataError:
        raise
    # A damaged pickle makes the unpickler fail in whatever way its bytes happen to spell.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"{name} is truncated or damaged ({error!r}). {_REMEDY}") from None
    if not isinstance(content, dict):
        raise DataError(f"{name} is not a CIFAR-10 file: it holds a {type(content).__name__}, not a dictionary. {_REMEDY}")
    return content


class _RestrictedUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain values; a pickle that names anything else is refused before it can run."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        super().__init__(stream, encoding="latin1")  # pickled by Python 2: its strings are bytes
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        """The few functions that rebuild an array."""
        import numpy as np
        from numpy._core import multiarray, numeric

        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,
        }
        for package in ("numpy.core", "numpy._core"):
            allowed[f"{package}.multiarray", "_reconstruct"] = multiarray._reconstruct  # noqa: SLF001
            allowed[f"{package}.numeric", "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined] # noqa: SLF001
        if (module, name) not in allowed:
            raise DataError(
                f"{self._name} was refused: its pickle asks for {module}.{name}, which CIFAR-10 never does and which could run "
                f"code. Do not open the file by other means. {_REMEDY}"
            )
        return allowed[module, name]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 spell bytes."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")
