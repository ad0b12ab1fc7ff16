"""What all layouts share: what they promise, and how raw numbers become candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shoppable.detector.boxes import Boxes, Floats, Indices
from shoppable.detector.detections import Candidates

Array = npt.NDArray[Any]
# Of a picture's candidates so many go on, the best first. A YOLO proposes 8,400, and at a threshold of 0 comparing each
# with each would take a gigabyte; what comes behind the thousandth is nothing that a caller sees.
MOST_CANDIDATES = 1000
# Half precision rounds a score of 1 up to this.
_ABOVE_1 = 2e-3


class LayoutError(Exception):
    """What a model takes or gives is not what its manifest declares; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output that a layout needs.

    Attributes:
        field: The manifest's field that names it.
        name: Its name on Triton.
        shape: Without the batch dimension; None where any size will do.
    """

    field: str
    name: str
    shape: tuple[int | None, ...]


class Layout(Protocol):
    """A way to put out what was found."""

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """Return the outputs of a model with an input of this size in pixels.

        Raises:
            LayoutError: No model of this layout can have such an input.
        """

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """Read the outputs for one picture, without the batch dimension, by their names on Triton.

        Returns:
            Candidates with boxes in pixels of the input and indices of the labels, at most MOST_CANDIDATES. What is no
            number, has a score of 0 or less, or is of a class without a label, is left out.

        Raises:
            LayoutError: The outputs are not of this layout, in whatever can be seen from the numbers.
        """


def candidates_of(boxes: Boxes, scores: Floats, classes: Indices) -> Candidates:
    """Take the best of what a model proposes, in the model's order.

    Raises:
        LayoutError: A score is above 1: it is a logit, or another column.
    """
    usable = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (scores > 0)
    if not usable.all():
        boxes, scores, classes = boxes[usable], scores[usable], classes[usable]
    highest = scores.max(initial=0)
    if highest > 1 + _ABOVE_1:
        raise LayoutError(f"output: a score is {highest:g}, and scores are 0..1")
    if len(scores) > MOST_CANDIDATES:
        best = np.sort(np.argpartition(-scores, MOST_CANDIDATES)[:MOST_CANDIDATES])
        boxes, scores, classes = boxes[best], scores[best], classes[best]
    return Candidates(boxes, np.minimum(scores, 1), classes)


def corners(boxes: Boxes) -> Boxes:
    """Turn boxes [N, 4] of x and y of the middle, width and height into left, top, right, bottom."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def in_pixels(boxes: Boxes, *, width: int, height: int) -> Boxes:
    """Turn boxes [N, 4] in shares of the input into pixels of it."""
    return np.asarray(boxes * np.array([width, height, width, height], np.float32))


def label_indices(classes: Floats, numbers: Sequence[int]) -> Indices:
    """Turn class numbers [N] as a model gives them into indices of its labels; -1 where the number has none.

    Raises:
        LayoutError: A number is above those of the labels, or negative.
    """
    whole = np.rint(classes).astype(np.intp)
    highest = max(numbers)
    if whole.max(initial=0) > highest or whole.min(initial=0) < 0:
        odd = whole.max() if whole.max() > highest else whole.min()
        raise LayoutError(f"labels: a class number is {odd}, and those of the labels end at {highest}")
    index_of = np.full(highest + 1, -1, np.intp)
    index_of[list(numbers)] = np.arange(len(numbers))
    return np.asarray(index_of[whole])


def floats(array: Array) -> Floats:
    """Return an output as float32, whatever its type."""
    return np.asarray(array, np.float32)
