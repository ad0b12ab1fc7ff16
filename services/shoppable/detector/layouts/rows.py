"""Layouts of finished detections: one row, or one place in each of three tensors, for each thing."""

from collections.abc import Mapping, Sequence

import numpy as np

from shoppable.detector.boxes import Boxes, Floats
from shoppable.detector.detections import Candidates
from shoppable.detector.layouts.layout import (
    Array,
    Tensor,
    candidates_of,
    corners,
    floats,
    in_pixels,
    label_indices,
)
from shoppable.detector.manifest import CandidatesOutput, DetectionsOutput


class CandidatesLayout:
    """[K, 6]: the box, score, class number."""

    def __init__(self, output: CandidatesOutput, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = numbers

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        return [Tensor("output.name", self._output.name, (None, 6))]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`."""
        rows = floats(outputs[self._output.name])
        return _labelled(self._output, self._numbers, rows[:, :4], rows[:, 4], rows[:, 5], width=width, height=height)


class DetectionsLayout:
    """Class numbers [K], boxes [K, 4], scores [K]."""

    def __init__(self, output: DetectionsOutput, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = numbers

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        return [
            Tensor("output.labels_name", self._output.labels_name, (None,)),
            Tensor("output.boxes_name", self._output.boxes_name, (None, 4)),
            Tensor("output.scores_name", self._output.scores_name, (None,)),
        ]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`."""
        classes, boxes, scores = (
            floats(outputs[name])
            for name in (self._output.labels_name, self._output.boxes_name, self._output.scores_name)
        )
        return _labelled(self._output, self._numbers, boxes, scores, classes, width=width, height=height)


def _labelled(
    output: CandidatesOutput | DetectionsOutput,
    numbers: Sequence[int],
    boxes: Boxes,
    scores: Floats,
    classes: Floats,
    *,
    width: int,
    height: int,
) -> Candidates:
    # Rows that are there only to fill the tensor have no score, and often the class number -1.
    used = np.isfinite(classes) & (scores > 0)
    boxes, scores, classes = boxes[used], scores[used], classes[used]
    labels = label_indices(classes, numbers)
    known = labels >= 0
    boxes, scores, labels = boxes[known], scores[known], labels[known]
    boxes = corners(boxes) if output.boxes == "center" else boxes
    boxes = in_pixels(boxes, width=width, height=height) if output.units == "shares" else boxes
    return candidates_of(boxes, scores, labels)
