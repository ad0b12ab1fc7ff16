"""Boxes as arrays.

Boxes are float arrays [N, 4] of left, top, right, bottom, with the origin in the top left corner; what their unit is,
pixels or shares of the frame, the user of a function decides.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Boxes = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


def areas(boxes: Boxes) -> Floats:
    """Return the areas [N] of boxes [N, 4]; 0 for boxes turned inside out."""
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sizes[:, 0] * sizes[:, 1])


def overlaps(first: Boxes, second: Boxes) -> Floats:
    """Return the intersection over union, 0..1, of each of [N, 4] with each of [M, 4], as [N, M].

    Two boxes without area have 0 in common, also with themselves.
    """
    sides = (
        np.minimum.outer(first[:, at + 2], second[:, at + 2]) - np.maximum.outer(first[:, at], second[:, at])
        for at in (0, 1)
    )
    across, down = (np.maximum(side, 0) for side in sides)
    shared = across * down
    together = areas(first)[:, None] + areas(second)[None, :] - shared
    return np.asarray(np.divide(shared, together, out=np.zeros_like(shared), where=together > 0))
