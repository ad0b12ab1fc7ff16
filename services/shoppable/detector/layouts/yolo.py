"""The layouts of the YOLO families: a proposal for each cell of several grids, with a score for each class.

A proposal stands for its best class only, as these families do when they are used.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shoppable.detector.boxes import Boxes, Floats
from shoppable.detector.detections import Candidates
from shoppable.detector.layouts.layout import Array, LayoutError, Tensor, candidates_of, corners, floats
from shoppable.detector.manifest import YoloV5Output, YoloV8Output, YoloxOutput

# Beyond this the exponential of a box's size is no pixel count of any picture.
_LARGEST_EXPONENT = 20.0


class YoloV8Layout:
    """[4 + classes, P]: boxes, then scores."""

    def __init__(self, output: YoloV8Output, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = np.array(numbers, np.intp)

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        return [Tensor("output.name", self._output.name, (4 + int(self._numbers.max()) + 1, None))]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`."""
        columns = floats(outputs[self._output.name])
        return _best_class(columns[:4].T, columns[4 + self._numbers].T)


class YoloV5Layout:
    """[P, 5 + classes]: boxes, whether anything is there, then what it is."""

    def __init__(self, output: YoloV5Output, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = np.array(numbers, np.intp)

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        return [Tensor("output.name", self._output.name, (None, 5 + int(self._numbers.max()) + 1))]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`."""
        rows = floats(outputs[self._output.name])
        return _best_class(rows[:, :4], rows[:, 4:5] * rows[:, 5 + self._numbers])


class YoloxLayout:
    """[P, 5 + classes] with boxes told from their cells, the finest grid first, each row by row."""

    def __init__(self, output: YoloxOutput, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = np.array(numbers, np.intp)

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        odd = [stride for stride in self._output.strides if width % stride or height % stride]
        if odd:
            raise LayoutError(f"output.strides: {odd} do not divide the input's {width} x {height}")
        cells = sum((width // stride) * (height // stride) for stride in self._output.strides)
        return [Tensor("output.name", self._output.name, (cells, 5 + int(self._numbers.max()) + 1))]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`."""
        rows = floats(outputs[self._output.name])
        cells, strides = _cells(self._output.strides, width=width, height=height)
        if len(rows) != len(cells):
            raise LayoutError(f"output.name: {len(rows)} rows, and grids of {self._output.strides} have {len(cells)}")
        boxes = np.empty((len(rows), 4), np.float32)
        boxes[:, :2] = (rows[:, :2] + cells) * strides
        boxes[:, 2:] = np.exp(np.minimum(rows[:, 2:4], _LARGEST_EXPONENT)) * strides
        return _best_class(boxes, rows[:, 4:5] * rows[:, 5 + self._numbers])


def _cells(strides: Sequence[int], *, width: int, height: int) -> tuple[Floats, Floats]:
    """Return column and row [P, 2] of each cell in its grid, and the grid's stride [P, 1]."""
    columns, sizes = [], []
    for stride in strides:
        across, down = width // stride, height // stride
        rows, places = np.divmod(np.arange(across * down), across)
        columns.append(np.stack([places, rows], axis=1))
        sizes.append(np.full((across * down, 1), stride))
    return np.concatenate(columns).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def _best_class(boxes: Boxes, scores: Floats) -> Candidates:
    best = scores.argmax(axis=1)
    return candidates_of(corners(boxes), scores[np.arange(len(scores)), best], best)
