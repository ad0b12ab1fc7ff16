"""Puts a converted network between a common input and a common output, as one ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
from onnx import TensorProto, helper, numpy_helper  # type: ignore[import-not-found, unused-ignore] # as above

from convert_models.contract import INPUT_NAME
from convert_models.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from convert_models.contract import DetectorContract, ModelContract

OPSET = 18
# The oldest file format that opset 18 goes with, so that older runtimes load the models too.
IR_VERSION = 8


class GraphAssembly:
    """A graph under construction: nodes in order of execution, and the constants they use."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: ArrayLike, dtype: DTypeLike) -> str:
        """Adds a constant; its name, for use as an input."""
        if name in self._constants:
            raise ConversionError(f"two constants are called {name}: rename the one that this tool adds")
        self._constants[name] = numpy_helper.from_array(np.asarray(value, dtype=dtype), name)
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output; that output's name."""
        return self.split(operator, inputs, [output], **attributes)[0]

    def split(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Adds a node with several outputs; their names."""
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), **attributes))
        return outputs

    def network(self, model: onnx.ModelProto) -> None:
        """Adds all of a converted network; its input has to be the output of a node added before."""
        version = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), None)
        if version != OPSET:
            raise ConversionError(f"the network was converted to opset {version}: convert it to opset {OPSET}")
        self._nodes.extend(model.graph.node)
        for tensor in model.graph.initializer:
            self._constants[tensor.name] = tensor

    def build(self, contract: ModelContract) -> onnx.ModelProto:
        """The checked model, with input and output as the contract has them."""
        graph = helper.make_graph(
            self._nodes,
            "shoppable",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", *contract.input_shape])],
            [helper.make_tensor_value_info(contract.output_name, TensorProto.FLOAT, ["N", *contract.output_shape])],
            self._used_constants(),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "shoppable convert_models"
        # strict_mode also compares the declared output shape with the one that follows from the graph.
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
        return model

    def _used_constants(self) -> list[onnx.TensorProto]:
        used = {name for node in self._nodes for name in node.input}
        return [tensor for name, tensor in self._constants.items() if name in used]


def free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with every batch size of 1 that was baked into a reshape replaced by "as in the input".

    Changes the model in place. Also drops the recorded shapes of intermediate results, as they say 1 too.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]])
        if shape.size == 0 or shape[0] != 1:
            continue
        # Several reshapes may share one constant, and other nodes may use it for something else.
        free_name = f"{node.input[1]}_free_batch"
        if free_name not in constants:
            free_shape = np.concatenate([[0], shape[1:]]).astype(np.int64)  # 0: copy from the input
            constants[free_name] = numpy_helper.from_array(free_shape, free_name)
            model.graph.initializer.append(constants[free_name])
        node.input[1] = free_name
    del model.graph.value_info[:]
    return model


def input_and_outputs(model: onnx.ModelProto, *, outputs: int) -> tuple[str, list[str]]:
    """Names of a network's only input and of its outputs, in order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    names = [value.name for value in model.graph.output]
    if len(inputs) != 1 or len(names) != outputs:
        raise ConversionError(
            f"the network has inputs {inputs} and outputs {names}, not 1 and {outputs}: "
            "the converter's version names or cuts the graph another way; use the versions in requirements.txt"
        )
    return inputs[0], names


def rank_candidates(assembly: GraphAssembly, boxes: str, scores: str, contract: DetectorContract) -> None:
    """Adds the last step of a detector: the K best pairs of place and class become `candidates`.

    Args:
        assembly: Where to add it.
        boxes: Name of FP32 [N, P, 4], corners in pixels of the input; P places of the image.
        scores: Name of FP32 [N, P, classes], 0..1.
        contract: The detector's.
    """
    k = assembly.constant("rank/k", [contract.candidates], np.int64)
    flat = assembly.constant("rank/flat_shape", [0, -1], np.int64)
    classes = assembly.constant("rank/classes", contract.classes, np.int64)
    last_axis = assembly.constant("rank/last_axis", [2], np.int64)
    four_times = assembly.constant("rank/four_times", [1, 1, 4], np.int64)

    flat_scores = assembly.node("Reshape", [scores, flat], "rank/flat_scores")
    best, index = assembly.split("TopK", [flat_scores, k], ["rank/best", "rank/index"], axis=1, largest=1, sorted=1)
    place = assembly.node("Div", [index, classes], "rank/place")
    class_id = assembly.node("Mod", [index, classes], "rank/class_id")

    place_column = assembly.node("Unsqueeze", [place, last_axis], "rank/place_column")
    place_of_corner = assembly.node("Tile", [place_column, four_times], "rank/place_of_corner")
    corners = assembly.node("GatherElements", [boxes, place_of_corner], "rank/corners", axis=1)
    score_column = assembly.node("Unsqueeze", [best, last_axis], "rank/score_column")
    class_number = assembly.node("Cast", [class_id], "rank/class_number", to=TensorProto.FLOAT)
    class_column = assembly.node("Unsqueeze", [class_number, last_axis], "rank/class_column")
    assembly.node("Concat", [corners, score_column, class_column], contract.output_name, axis=2)
