"""Stores weights as 16-bit floats: half the file, and the arithmetic stays in 32 bits."""

from __future__ import annotations

import numpy as np
import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
from onnx import TensorProto, helper, numpy_helper  # type: ignore[import-not-found, unused-ignore] # as above

# Smaller constants are shapes and scales: nothing to save, and some need their precision. The detectors' grids
# are larger and get rounded too: CenterNet's multiples of 4 pixels stay exact, SSD's boxes move by under 0.1 px.
MIN_WEIGHTS = 1024
# Kept below the largest float16 (65504), as rounding a value up past it gives infinity.
MAX_MAGNITUDE = 6e4


def store_weights_as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large FP32 constants kept as FP16, each cast back to FP32 before its first use.

    Runtimes fold such casts when they load a model, so a session computes as before, on rounded weights.
    Changes the model in place.
    """
    casts: list[onnx.NodeProto] = []
    kept: list[onnx.TensorProto] = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size >= MIN_WEIGHTS and np.abs(weights).max() < MAX_MAGNITUDE:
            stored_name = f"{tensor.name}/float16"
            kept.append(numpy_helper.from_array(weights.astype(np.float16), stored_name))
            casts.append(helper.make_node("Cast", [stored_name], [tensor.name], to=TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model
