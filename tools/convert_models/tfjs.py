"""Reads a TensorFlow.js graph model (a JSON file and its weights) and converts it to ONNX.

TensorFlow.js stores a TensorFlow graph as JSON, with the constants taken out into a binary file, and
some nodes fused. The graph is put together again as a GraphDef, which tf2onnx understands. Only what the
model in use needs is covered; anything else is refused by name.
"""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # type: ignore[import-not-found, import-untyped, unused-ignore] # this tool's environment
import tf2onnx  # type: ignore[import-not-found, import-untyped, unused-ignore] # as above
from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore] # stubs: the suite's own dev tools

from convert_models.errors import ConversionError
from convert_models.graph import OPSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
    from numpy.typing import NDArray

# Fused node -> the plain node that opens it.
PLAIN_OPERATOR = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
CONVOLUTION_ATTRIBUTES = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
STORED_TYPES = {"float32": "<f4", "int32": "<i4", "bool": "?"}


def to_onnx(description: bytes, weights: bytes, *, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of the graph between `inputs` and `outputs` (TensorFlow tensor names such as `tower/wh:0`)."""
    parsed = json.loads(description)
    graph = _graph(parsed["modelTopology"]["node"], read_weights(parsed["weightsManifest"], weights))
    model: onnx.ModelProto = tf2onnx.convert.from_graph_def(
        graph, input_names=list(inputs), output_names=list(outputs), opset=OPSET
    )[0]
    return model


def read_weights(manifest: list[dict[str, Any]], content: bytes) -> dict[str, NDArray[Any]]:
    """The constants by name. They lie one after another in `content`, in the manifest's order, without padding.

    Those that say `quantization: float16` come back as float32.
    """
    constants: dict[str, NDArray[Any]] = {}
    offset = 0
    for entry in (weight for group in manifest for weight in group["weights"]):
        quantization = entry.get("quantization")
        if quantization is not None and quantization["dtype"] != "float16":
            raise ConversionError(
                f"{entry['name']} is quantised as {quantization['dtype']}: teach tfjs.read_weights its scale and offset"
            )
        stored = np.dtype("<f2" if quantization is not None else STORED_TYPES[entry["dtype"]])
        values = np.frombuffer(content, stored, math.prod(entry["shape"]), offset)
        offset += values.nbytes
        plain = values.astype(np.float32) if quantization is not None else values
        constants[entry["name"]] = plain.reshape(entry["shape"])
    if offset != len(content):
        raise ConversionError(
            f"the manifest describes {offset} bytes of weights, but there are {len(content)}: "
            "the two files do not belong together, or the manifest names several weight files"
        )
    return constants


def _graph(nodes: list[dict[str, Any]], constants: dict[str, NDArray[Any]]) -> tf.compat.v1.GraphDef:
    """The TensorFlow graph, with its constants put back and its fused nodes taken apart."""
    graph = tf.compat.v1.GraphDef()
    for described in nodes:
        node = graph.node.add()
        if described["op"] == "Const":
            value = constants[described["name"]]
            node.name, node.op = described["name"], "Const"
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            continue
        json_format.ParseDict(described, node, ignore_unknown_fields=True)
        for attribute in node.attr.values():
            # JavaScript has no 64-bit integers: the constants are int32, so whatever takes them has to be as well.
            if attribute.type == tf.int64.as_datatype_enum:
                attribute.type = tf.int32.as_datatype_enum
        if node.op in PLAIN_OPERATOR:
            _unfuse(graph, node)
    return graph


def _unfuse(graph: tf.compat.v1.GraphDef, node: tf.compat.v1.NodeDef) -> None:
    """Replaces a fused convolution by the convolution, its bias and its activation; the last keeps the name."""
    fused_name, fused_inputs = node.name, list(node.input)
    follow_ups = [name.decode() for name in node.attr["fused_ops"].list.s]
    attributes = {key: copy.deepcopy(node.attr[key]) for key in CONVOLUTION_ATTRIBUTES if key in node.attr}
    operator = PLAIN_OPERATOR[node.op]

    node.Clear()
    node.name, node.op = f"{fused_name}/convolution", operator
    node.input.extend(fused_inputs[:2])  # image and kernel; the rest belongs to the follow-ups
    for key, value in attributes.items():
        node.attr[key].CopyFrom(value)

    previous = node.name
    for position, follow_up in enumerate(follow_ups):
        added = graph.node.add()
        added.op = follow_up
        added.name = fused_name if position == len(follow_ups) - 1 else f"{fused_name}/{follow_up}"
        added.attr["T"].CopyFrom(attributes["T"])
        added.input.append(previous)
        if follow_up == "BiasAdd":
            added.input.append(fused_inputs[2])
            added.attr["data_format"].CopyFrom(attributes["data_format"])
        elif follow_up not in {"Relu", "Relu6"}:
            raise ConversionError(f"{fused_name} is fused with {follow_up}: teach tfjs._unfuse to take that apart")
        previous = added.name
