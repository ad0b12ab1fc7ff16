"""The layout of transformer detectors before any post-processing: logits and boxes of a fixed number of queries."""

from collections.abc import Mapping, Sequence

import numpy as np

from shoppable.detector.boxes import Floats
from shoppable.detector.detections import Candidates
from shoppable.detector.layouts.layout import Array, Tensor, candidates_of, corners, floats, in_pixels
from shoppable.detector.manifest import DetrOutput


class DetrLayout:
    """Logits [Q, classes] and boxes [Q, 4]."""

    def __init__(self, output: DetrOutput, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = np.array(numbers, np.intp)
        # With softmax something must be likely where nothing is: the last class.
        self._classes = max(numbers) + (2 if output.scores == "softmax" else 1)

    def tensors(self, *, width: int, height: int) -> Sequence[Tensor]:
        """See `Layout.tensors`."""
        return [
            Tensor("output.logits_name", self._output.logits_name, (None, self._classes)),
            Tensor("output.boxes_name", self._output.boxes_name, (None, 4)),
        ]

    def read(self, outputs: Mapping[str, Array], *, width: int, height: int) -> Candidates:
        """See `Layout.read`. A query can be several things with sigmoid, and only its likeliest with softmax."""
        logits = floats(outputs[self._output.logits_name])
        boxes = in_pixels(corners(floats(outputs[self._output.boxes_name])), width=width, height=height)
        if self._output.scores == "softmax":
            scores = _softmax(logits)[:, self._numbers]
            best = scores.argmax(axis=1)
            return candidates_of(boxes, scores[np.arange(len(scores)), best], best)
        scores = _sigmoid(logits[:, self._numbers])
        queries, labels = np.divmod(np.arange(scores.size), len(self._numbers))
        return candidates_of(boxes[queries], scores.ravel(), labels)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))))


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
