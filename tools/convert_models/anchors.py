"""The anchors of an SSD, and where in an ONNX graph its box offsets become corners.

Scales follow "SSD: Single Shot MultiBox Detector" (Liu et al., 2016), equation 4, in the form that the
TensorFlow Object Detection API gave it: an extra anchor between two scales, and fewer on the finest map.
The offsets are those of Faster R-CNN (Ren et al., 2015), equation 2, with the API's usual divisors of 10 and 5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert_models.graph import GraphAssembly

# Cells along one side of each feature map of a MobileNetV2 at 300x300, finest first.
FEATURE_MAP_CELLS = (19, 10, 5, 3, 2, 1)
SMALLEST_SCALE, LARGEST_SCALE = 0.2, 0.95
FINEST_MAP_SMALL_SCALE = 0.1
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)  # width to height; 0.3333 and not 1/3, as the network was trained with
CENTER_DIVISOR, SIZE_DIVISOR = 10.0, 5.0


def ssd_anchors() -> NDArray[np.float32]:
    """All 1917 anchors in the network's order (map, row, column, shape): [1917, 4].

    A row is centre x, centre y, width, height, as shares of the image's side.
    """
    scales = [float(s) for s in np.linspace(SMALLEST_SCALE, LARGEST_SCALE, len(FEATURE_MAP_CELLS))]
    anchors: list[tuple[float, float, float, float]] = []
    for level, cells in enumerate(FEATURE_MAP_CELLS):
        shapes = _shapes(scales[level], scales[level + 1] if level + 1 < len(scales) else 1.0, finest=level == 0)
        for row in range(cells):
            for column in range(cells):
                center_x, center_y = (column + 0.5) / cells, (row + 0.5) / cells
                anchors.extend((center_x, center_y, width, height) for width, height in shapes)
    return np.array(anchors, np.float32)


def _shapes(scale: float, next_scale: float, *, finest: bool) -> list[tuple[float, float]]:
    """Widths and heights of the anchors in one cell, in the network's order."""
    if finest:
        ratio_and_scale = [(1.0, FINEST_MAP_SMALL_SCALE), (2.0, scale), (0.5, scale)]
    else:
        between = (1.0, math.sqrt(scale * next_scale))
        ratio_and_scale = [*((ratio, scale) for ratio in ASPECT_RATIOS), between]
    return [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio, size in ratio_and_scale]


def decode_boxes(assembly: GraphAssembly, offsets: str, *, size_px: int) -> str:
    """Adds the way from offsets to corners; the name of the corners.

    With an anchor (cx, cy, w, h) and its offsets (ty, tx, th, tw), as the network orders them, the box has
    its centre at (cx + tx / 10 * w, cy + ty / 10 * h) and the size (w * exp(tw / 5), h * exp(th / 5)).

    Args:
        assembly: Where to add it.
        offsets: Name of FP32 [N, 1917, 4].
        size_px: The image's side. The corners, FP32 [N, 1917, 4], are x1, y1, x2, y2 in its pixels.
    """
    anchors = ssd_anchors()[None]
    anchor_centers = assembly.constant("decode/anchor_centers", anchors[..., :2], np.float32)
    anchor_sizes = assembly.constant("decode/anchor_sizes", anchors[..., 2:], np.float32)
    center_scale = assembly.constant("decode/center_scale", 1 / CENTER_DIVISOR, np.float32)
    size_scale = assembly.constant("decode/size_scale", 1 / SIZE_DIVISOR, np.float32)
    half = assembly.constant("decode/half", 0.5, np.float32)
    side = assembly.constant("decode/side_px", size_px, np.float32)
    swap = assembly.constant("decode/swap", [1, 0], np.int64)

    center_yx, size_hw = assembly.split(
        "Split", [offsets], ["decode/center_yx", "decode/size_hw"], axis=2, num_outputs=2
    )
    center_xy = assembly.node("Gather", [center_yx, swap], "decode/center_xy", axis=2)
    size_wh = assembly.node("Gather", [size_hw, swap], "decode/size_wh", axis=2)

    shift = assembly.node("Mul", [center_xy, center_scale], "decode/shift")
    scaled_shift = assembly.node("Mul", [shift, anchor_sizes], "decode/scaled_shift")
    centers = assembly.node("Add", [scaled_shift, anchor_centers], "decode/centers")
    growth = assembly.node("Mul", [size_wh, size_scale], "decode/growth")
    factor = assembly.node("Exp", [growth], "decode/factor")
    sizes = assembly.node("Mul", [factor, anchor_sizes], "decode/sizes")
    half_sizes = assembly.node("Mul", [sizes, half], "decode/half_sizes")

    first = assembly.node("Sub", [centers, half_sizes], "decode/first_corner")
    second = assembly.node("Add", [centers, half_sizes], "decode/second_corner")
    shares = assembly.node("Concat", [first, second], "decode/shares", axis=2)
    return assembly.node("Mul", [shares, side], "decode/boxes")
