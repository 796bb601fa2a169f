"""The bundle contract: a folder that holds a model and all that is needed to serve and to judge it.

`model.onnx` has preprocessing inside; `bundle.json` describes it; `golden.json` holds real test inputs with the outputs
expected of them.

Invariants:
- A bundle is self-sufficient: copied to another machine, the predictor answers from it.
- `bundle_id` is a hash of the model, the golden examples and the description; reading checks every file against its hash.
"""

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import BundleError
from slipway.export.signature import Signature
from slipway.storage.files import hash_file, hash_json, staged_directory, write_json

FORMAT_VERSION = 1
INFO_NAME = "bundle.json"
MODEL_NAME = "model.onnx"
GOLDEN_NAME = "golden.json"


@dataclass(frozen=True, kw_only=True)
class GoldenExample:
    """One real input and the answer expected of it; arrays keep the batch axis, of size 1."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]


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
    files: dict[str, str] | None = None
    """SHA-256 of the other files. Filled in by `write_bundle`."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on local disk whose files have been checked."""

    root: Path
    info: BundleInfo
    golden: tuple[GoldenExample, ...]

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.root / MODEL_NAME


def write_bundle(root: Path, info: BundleInfo, golden: Sequence[GoldenExample]) -> BundleInfo:
    """Complete the folder `root`, which already holds `model.onnx`; `bundle.json` is written last.

    Returns:
        `info` with `bundle_id` and `files` filled in.
    """
    examples = [{"inputs": _encode_all(example.inputs), "outputs": _encode_all(example.outputs)} for example in golden]
    write_json(root / GOLDEN_NAME, {"examples": examples})
    files = {name: hash_file(root / name) for name in (MODEL_NAME, GOLDEN_NAME)}
    complete = replace(info, bundle_id="", files=files)
    complete = replace(complete, bundle_id=hash_json(asdict(complete))[:32])
    write_json(root / INFO_NAME, asdict(complete))
    return complete


def read_info(root: Path) -> BundleInfo:
    """Parse `bundle.json` alone, without checking the other files.

    Raises:
        BundleError: it is missing, damaged, or of another format version.
    """
    path = root / INFO_NAME
    try:
        content = json.loads(path.read_text())
        if content["format_version"] != FORMAT_VERSION:
            raise BundleError(f"{path}: format version {content['format_version']}; this Slipway reads version {FORMAT_VERSION}.")
        content["signature"] = Signature.from_json(content["signature"])
        content["class_names"] = tuple(content["class_names"])
        return BundleInfo(**content)
    except FileNotFoundError:
        raise BundleError(f"{path} is missing: {root} is not a bundle, or was not finished.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error!r}). Train and export the model again.") from None


def read_bundle(root: Path) -> Bundle:
    """Read a bundle and check each of its files against the hash in `bundle.json`.

    Raises:
        BundleError: a file is missing, altered, or cannot be parsed.
    """
    info = read_info(root)
    if hash_json(asdict(replace(info, bundle_id="")))[:32] != info.bundle_id:
        raise BundleError(f"{root / INFO_NAME} was altered: its content does not have the id it states. Export the model again.")
    for name, expected in (info.files or {}).items():
        path = root / name
        if not path.is_file():
            raise BundleError(f"{path} is missing. Export the model again.")
        if hash_file(path) != expected:
            raise BundleError(f"{path} was altered: its hash is not the one in {INFO_NAME}. Export the model again.")
    try:
        examples = json.loads((root / GOLDEN_NAME).read_text())["examples"]
        golden = tuple(
            GoldenExample(inputs=_decode_all(entry["inputs"]), outputs=_decode_all(entry["outputs"])) for entry in examples
        )
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


def _encode_all(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: _encode(array) for name, array in arrays.items()}


def _decode_all(entries: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: _decode(entry) for name, entry in entries.items()}


def _encode(array: NDArray[Any]) -> dict[str, Any]:
    shape = list(array.shape)
    if array.dtype == object:
        return {"dtype": "string", "shape": shape, "values": ["" if value is None else str(value) for value in array.ravel()]}
    return {"dtype": array.dtype.name, "shape": shape, "base64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


def _decode(entry: dict[str, Any]) -> NDArray[Any]:
    if entry["dtype"] == "string":
        return np.array(entry["values"], dtype=object).reshape(entry["shape"])
    raw = base64.b64decode(entry["base64"], validate=True)
    return np.frombuffer(raw, dtype=entry["dtype"]).reshape(entry["shape"])
