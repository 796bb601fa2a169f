"""The bundle contract: a folder that holds a model and all that is needed to serve and to judge it.

`model.onnx` has preprocessing inside; `model.int8.onnx`, where it was kept, is the same network in 8-bit integers; `bundle.json`
describes them; `golden.json` holds real test inputs with the outputs expected of them in each precision.

Invariants:
- A bundle is self-sufficient: copied to another machine, the predictor answers from it.
- `bundle_id` is a hash of the models, the golden examples and the description; reading checks every file against its hash.
- `default_precision` is fp32 or one of `precisions` that is kept.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slipway.errors import BundleError
from slipway.export.golden import GoldenExample, decode_example, encode_example
from slipway.export.precision import Precision, PrecisionInfo
from slipway.export.signature import Signature
from slipway.storage.files import hash_file, hash_json, staged_directory, write_json

FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)
"""Version 1 knew no precisions but fp32, and said nothing of the inputs beyond the signature."""

INFO_NAME = "bundle.json"
MODEL_NAME = "model.onnx"
INT8_NAME = "model.int8.onnx"
GOLDEN_NAME = "golden.json"


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """What training saw in one column of a table."""

    name: str
    categories: tuple[str, ...] = ()
    """That the model knows, of a column of strings; all others count as missing."""
    minimum: float | None = None
    """Of a column of numbers, in the train split."""
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """What `bundle.json` says."""

    format_version: int = FORMAT_VERSION
    bundle_id: str = ""
    """Filled in by `write_bundle`."""
    task: str
    architecture: str
    signature: Signature
    class_names: tuple[str, ...]
    dataset_id: str
    code_version: str
    """Hash of the library's source, and the git commit where there is one."""
    opset: int
    metrics: dict[str, float]
    """Of the validation split, when the model was trained."""
    model: dict[str, float]
    """Model info: parameters, trainable_parameters, macs, size_bytes."""
    parity_max_difference: float
    """Largest absolute difference between torch and ONNX outputs on real samples at export."""
    precisions: tuple[PrecisionInfo, ...] = ()
    """Those beside fp32 that were tried."""
    default_precision: Precision = "fp32"
    """The one to serve where the processor computes it natively; elsewhere it is fp32."""
    image_min_side: int | None = None
    """Large JPEGs are scaled down while they are decoded, never below this side, as training images are; None without images."""
    columns: tuple[ColumnInfo, ...] = ()
    """Of a table, in the signature's order."""
    files: dict[str, str] | None = None
    """SHA-256 of the other files. Filled in by `write_bundle`."""

    @cached_property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """That the model knows, of each column of strings."""
        strings = {spec.name for spec in self.signature.inputs if spec.dtype == "string"}
        return {column.name: column.categories for column in self.columns if column.name in strings}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on local disk whose files have been checked."""

    root: Path
    info: BundleInfo
    golden: tuple[GoldenExample, ...]

    @property
    def model_path(self) -> Path:
        """The ONNX file in fp32."""
        return self.root / MODEL_NAME

    def file_of(self, precision: Precision) -> Path:
        """The ONNX file that a precision is computed from."""
        return self.root / (INT8_NAME if precision == "int8" else MODEL_NAME)

    def find_precision(self, precision: Precision) -> PrecisionInfo | None:
        """What was found out about a precision beside fp32; None where it was not tried."""
        return next((entry for entry in self.info.precisions if entry.precision == precision), None)


def write_bundle(root: Path, info: BundleInfo, golden: Sequence[GoldenExample]) -> BundleInfo:
    """Complete the folder `root`, which already holds the model's files; `bundle.json` is written last.

    Returns:
        `info` with `bundle_id` and `files` filled in.
    """
    write_json(root / GOLDEN_NAME, {"examples": [encode_example(example) for example in golden]})
    models = {MODEL_NAME: None} | {entry.file: None for entry in info.precisions if entry.kept}
    files = {name: hash_file(root / name) for name in (*models, GOLDEN_NAME)}
    complete = replace(info, bundle_id="", files=files)
    complete = replace(complete, bundle_id=hash_json(asdict(complete))[:32])
    write_json(root / INFO_NAME, asdict(complete))
    return complete


def read_info(root: Path) -> BundleInfo:
    """Parse `bundle.json` alone, without checking the other files.

    Raises:
        BundleError: it is missing, damaged, or of another format version.
    """
    return _parse_info(root / INFO_NAME, _read_content(root))


def read_bundle(root: Path, *, hashes: Mapping[str, str] | None = None) -> Bundle:
    """Read a bundle and check each of its files against the hash in `bundle.json`.

    `hashes` are the SHA-256 of its files, by name, as far as the caller has just computed them.

    Raises:
        BundleError: a file is missing, altered, or cannot be parsed.
    """
    content = _read_content(root)
    stated_id = hash_json({**content, "bundle_id": ""})[:32]
    info = _parse_info(root / INFO_NAME, content)
    if stated_id != info.bundle_id:
        raise BundleError(f"{root / INFO_NAME} was altered: its content does not have the id it states. Export the model again.")
    for name, expected in (info.files or {}).items():
        path = root / name
        if not path.is_file():
            raise BundleError(f"{path} is missing. Export the model again.")
        if ((hashes or {}).get(name) or hash_file(path)) != expected:
            raise BundleError(f"{path} was altered: its hash is not the one in {INFO_NAME}. Export the model again.")
    try:
        examples = json.loads((root / GOLDEN_NAME).read_text())["examples"]
        golden = tuple(decode_example(entry) for entry in examples)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{root / GOLDEN_NAME} is damaged ({error!r}). Export the model again.") from None
    return Bundle(root=root, info=info, golden=golden)


def copy_bundle(source: Path, target: Path) -> Bundle:
    """Copy the files that belong to a bundle, and no others; `target` appears only when the copy has been checked.

    Raises:
        BundleError: like `read_bundle`; an existing `target` stays as it was.
    """
    with staged_directory(target) as staging:
        for name in (INFO_NAME, *(read_info(source).files or {})):
            if not (source / name).is_file():
                raise BundleError(f"{source / name} is missing. Export the model again.")
            shutil.copyfile(source / name, staging / name)
        bundle = read_bundle(staging)
    return replace(bundle, root=target)


def _read_content(root: Path) -> dict[str, Any]:
    path = root / INFO_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        version = content["format_version"]
    except FileNotFoundError:
        raise BundleError(f"{path} is missing: {root} is not a bundle, or was not finished.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    if version not in READ_VERSIONS:
        accepted = " and ".join(map(str, READ_VERSIONS))
        raise BundleError(f"{path}: format version {version}; this Slipway reads versions {accepted}.")
    return content


def _parse_info(path: Path, content: dict[str, Any]) -> BundleInfo:
    try:
        parsed = {
            **content,
            "signature": Signature.from_json(content["signature"]),
            "class_names": tuple(content["class_names"]),
            "precisions": tuple(PrecisionInfo.from_json(entry) for entry in content.get("precisions", ())),
            "columns": tuple(
                ColumnInfo(**{**entry, "categories": tuple(entry["categories"])}) for entry in content.get("columns", ())
            ),
        }
        return BundleInfo(**parsed)
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BundleError:
    return BundleError(f"{path} is damaged ({error!r}). Train and export the model again.")
