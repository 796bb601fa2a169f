"""`sklearn://NAME`: the data sets that scikit-learn brings along."""

from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.data.sources.base import SourceUri
from slipway.errors import DataError
from slipway.storage.files import hash_json

if TYPE_CHECKING:
    from slipway.data.raw import RawData

FORM = "sklearn://digits|wine|iris|breast_cancer"
OPTIONS: tuple[str, ...] = ()
_TABLES = ("wine", "iris", "breast_cancer")
_NAMES = ("digits", *_TABLES)
_MAX_DIGITS_VALUE = 16
_TARGET = "target"
_CSV_NAME = "data.csv"


def model_name(uri: SourceUri) -> str:
    """The data set's name."""
    return _require_name(uri)


def compute_fingerprint(uri: SourceUri) -> str:
    """The name and scikit-learn's version, which is not imported for it."""
    return hash_json(["sklearn", _require_name(uri), version("scikit-learn")])


def copy_source(uri: SourceUri, files_dir: Path) -> None:
    """Write the arrays as files."""
    from sklearn import datasets

    name = _require_name(uri)
    bunch = getattr(datasets, f"load_{name}")()
    if name == "digits":
        _write_digits(bunch, files_dir)
    else:
        _write_table(bunch, files_dir)


def open_copy(uri: SourceUri, files_dir: Path) -> "RawData":
    """Read the files back."""
    if uri.location == "digits":
        import numpy as np

        from slipway.data.arrays import ArrayPart, read_arrays

        part = ArrayPart(
            name="digits",
            origin="",
            images=np.load(files_dir / "images.npy", mmap_mode="r"),
            labels=np.load(files_dir / "labels.npy"),
        )
        return read_arrays(tuple(map(str, range(10))), [part])
    from slipway.data.tables import TableLayout, read_table

    return read_table(files_dir / _CSV_NAME, uri.text, TableLayout(target=_TARGET))


def _require_name(uri: SourceUri) -> str:
    if uri.location not in _NAMES:
        nearest = get_close_matches(uri.location, _NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean sklearn://{nearest[0]}?" if nearest else ""
        raise DataError(f"{uri.text}: no such data set.{hint} Accepted: {FORM}.")
    return uri.location


def _write_digits(bunch: Any, files_dir: Path) -> None:
    import numpy as np

    images = np.rint(bunch.images * (255 / _MAX_DIGITS_VALUE)).astype(np.uint8)[..., np.newaxis]
    np.save(files_dir / "images.npy", images)
    np.save(files_dir / "labels.npy", bunch.target.astype(np.int64))


def _write_table(bunch: Any, files_dir: Path) -> None:
    import csv

    with (files_dir / _CSV_NAME).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*bunch.feature_names, _TARGET])
        for row, label in zip(bunch.data.tolist(), bunch.target, strict=True):
            writer.writerow([*map(repr, row), bunch.target_names[label]])
