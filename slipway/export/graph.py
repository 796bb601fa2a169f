"""What is put in front of an exported network, as ONNX nodes that torch cannot express."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABEL_ENCODER_OPSET = 4


def prepend_resize(model: onnx.ModelProto, name: str, *, height: int, width: int) -> onnx.ModelProto:
    """Let the uint8 NHWC input `name` have any height and width.

    The antialiased bilinear filter on uint8, border weights left out and renormalised, is the one of Pillow's
    `Image.resize(..., BILINEAR)`: the results differ by at most 1 of 255, and an image of the right size passes unchanged.
    """
    graph = model.graph
    entry = _rename_consumers(graph, name, f"{name}_resized")
    channels = entry.type.tensor_type.shape.dim[3].dim_value
    nodes = [
        helper.make_node("Shape", [name], [f"{name}_batch"], start=0, end=1),
        helper.make_node("Concat", [f"{name}_batch", f"{name}_size"], [f"{name}_sizes"], axis=0),
        helper.make_node(
            "Resize",
            [name, "", "", f"{name}_sizes"],
            [f"{name}_resized"],
            name=f"resize_{name}",
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        ),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([height, width, channels], dtype=np.int64), f"{name}_size"))
    shape = ["batch", "height", "width", channels]
    _replace_input(graph, name, helper.make_tensor_value_info(name, TensorProto.UINT8, shape), nodes)
    return model


def prepend_lookup(model: onnx.ModelProto, name: str, categories: Sequence[str]) -> onnx.ModelProto:
    """Let the int64 input `name` be given as strings: the first category is 1, what is not among them 0."""
    graph = model.graph
    index = _unused_name(graph, f"{name}_index")
    _rename_consumers(graph, name, index)
    indices = dict(zip(categories, range(1, len(categories) + 1), strict=True)) or {"": 0}
    node = helper.make_node(
        "LabelEncoder",
        [name],
        [index],
        domain="ai.onnx.ml",
        keys_strings=list(indices),
        values_int64s=list(indices.values()),
        default_int64=0,
    )
    _replace_input(graph, name, helper.make_tensor_value_info(name, TensorProto.STRING, ["batch"]), [node])
    if all(entry.domain != "ai.onnx.ml" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", LABEL_ENCODER_OPSET))
    return model


def _unused_name(graph: onnx.GraphProto, name: str) -> str:
    """`name`, lengthened until nothing in the graph is called so: a table's columns may be called anything."""
    taken = {value for node in graph.node for value in (*node.input, *node.output)} | {entry.name for entry in graph.input}
    while name in taken:
        name += "_"
    return name


def _rename_consumers(graph: onnx.GraphProto, old: str, new: str) -> onnx.ValueInfoProto:
    for node in graph.node:
        for index, value in enumerate(node.input):
            if value == old:
                node.input[index] = new
    entry: onnx.ValueInfoProto = next(entry for entry in graph.input if entry.name == old)
    return entry


def _replace_input(graph: onnx.GraphProto, name: str, replacement: onnx.ValueInfoProto, nodes: Sequence[onnx.NodeProto]) -> None:
    inputs = [replacement if entry.name == name else entry for entry in graph.input]
    del graph.input[:]
    graph.input.extend(inputs)
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])
