"""A bundle's ONNX file as the network that OpenVINO is to compile: read, compared with its bundle, made fit for it."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from slipway.errors import BundleError
from slipway.export.precision import Precision
from slipway.export.signature import Signature

if TYPE_CHECKING:
    import openvino

_TYPES = {"uint8": "u8", "float32": "f32", "int64": "i64"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is to be compiled, and what is left to be done before it."""

    graph: "openvino.Model"
    image_sizes: dict[str, tuple[int, int]]
    """Height and width that images are to have, by input; an input that is not named takes what the signature says."""


def read_network(library: ModuleType, path: Path, signature: Signature, precision: Precision) -> Network:
    """Read an ONNX file; `precision` is what it is to be computed in.

    Raises:
        BundleError: it has other inputs or outputs than `signature`.
        Exception: one of `reading_errors`, where it is no model that OpenVINO can load.
    """
    graph = _read_onnx(path)
    _check_signature(path, graph, signature)
    image_sizes = _take_resize_out(library, graph)
    if precision == "int8":
        _simplify(graph)
    return Network(graph=graph, image_sizes=image_sizes)


def reading_errors() -> tuple[type[Exception], ...]:
    """What OpenVINO raises for a file that it cannot load."""
    from openvino import frontend

    return (
        RuntimeError,
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    )


def _read_onnx(path: Path) -> "openvino.Model":
    """Named as ONNX: asked to guess, OpenVINO loads its readers of all formats, and each complains of a damaged file."""
    from openvino.frontend import FrontEndManager

    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(str(path)))


def _check_signature(path: Path, graph: "openvino.Model", signature: Signature) -> None:
    for kind, entries, specs in (("inputs", graph.inputs, signature.inputs), ("outputs", graph.outputs, signature.outputs)):
        found = {entry.get_any_name(): entry.element_type.to_string() for entry in entries}
        stated = {spec.name: _TYPES.get(spec.dtype, spec.dtype) for spec in specs}
        if found != stated:
            raise BundleError(f"{path} has the {kind} {found} where its bundle states {stated}. Export the model again.")


def _take_resize_out(library: ModuleType, graph: "openvino.Model") -> dict[str, tuple[int, int]]:
    """Let images enter behind the graph's Resize; heights and widths that the network takes, by input.

    OpenVINO leaves the antialiasing out of an ONNX Resize, which changes a pixel by up to 141 of 255. Its own filter that is like
    Pillow's takes 3 to 10 times as long as Pillow.
    """
    from openvino import op

    sizes: dict[str, tuple[int, int]] = {}
    for resize in [node for node in graph.get_ordered_ops() if node.get_type_name() == "Interpolate"]:
        entry = resize.input_value(0).get_node()
        if entry.get_type_name() != "Parameter" or entry.get_element_type() != library.Type.u8:
            continue
        name = entry.output(0).get_any_name()
        shape = resize.output(0).partial_shape
        replacement = op.Parameter(library.Type.u8, shape)
        replacement.set_friendly_name(name)
        for consumer in resize.output(0).get_target_inputs():
            consumer.replace_source_output(replacement.output(0))
        graph.add_parameters([replacement])
        graph.remove_parameter(entry)
        replacement.output(0).set_names({name})
        sizes[name] = (shape[1].get_length(), shape[2].get_length())
    graph.validate_nodes_and_infer_types()
    return sizes


def _simplify(graph: "openvino.Model") -> None:
    """What each compiling would do by itself, done once for all batch sizes: of an int8 network two thirds of the nodes go."""
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(graph, cf=False)
