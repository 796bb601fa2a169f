"""What the server and its model say of themselves."""

from typing import Any

from slipway import __version__
from slipway.export.bundle import BundleInfo
from slipway.export.signature import TensorSpec
from slipway.serving.wire.tensors import DATATYPES

EXTENSIONS = ("binary_tensor_data", "classification")


def describe_server() -> dict[str, Any]:
    """The metadata of the server."""
    return {"name": "slipway", "version": __version__, "extensions": list(EXTENSIONS)}


def describe_model(info: BundleInfo, *, name: str, version: str, serving: dict[str, Any] | None = None) -> dict[str, Any]:
    """The metadata of a model: the protocol's fields, and under `parameters` what the bundle and `serving` know beyond them."""
    return {
        "name": name,
        "versions": [version],
        "platform": "onnx",
        "inputs": [_describe_tensor(spec) for spec in info.signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in info.signature.outputs],
        "parameters": {
            "task": info.task,
            "architecture": info.architecture,
            "class_names": list(info.class_names),
            "bundle_id": info.bundle_id,
            "dataset_id": info.dataset_id,
            "code_version": info.code_version,
            **(serving or {}),
        },
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}
