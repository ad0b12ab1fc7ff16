"""Checks a model: its contract, that a batch changes nothing, and that it answers as an earlier one did.

A second conversion seldom gives the same bytes, as converters name and order nodes anew with each version.
So what is compared is what a model says about pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
import onnxruntime  # type: ignore[import-untyped, unused-ignore] # the package ships no types
from onnx import TensorProto  # type: ignore[import-not-found, unused-ignore] # as above

from convert_models.contract import INPUT_NAME, DetectorContract
from convert_models.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from convert_models.contract import ModelContract

# Rows below this score are left out: they are noise, and which of them make the best K is a matter of rounding.
MIN_SCORE = 0.05
# A row may be missing on the other side if its score is this close to MIN_SCORE or to the K-th row's.
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE_PX = 0.25
# A pixel mean that is off by 1 moves embeddings by about 1e-4: the tolerance has to lie below such mistakes.
COSINE_DISTANCE_TOLERANCE = 1e-5
NORM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Difference:
    """How far two sets of answers are apart at most, over all pictures."""

    compared: int  # rows of candidates, or embeddings
    score: float = 0.0
    box_px: float = 0.0
    cosine_distance: float = 0.0

    @property
    def within_tolerance(self) -> bool:
        """Whether the two answer alike."""
        return (
            self.compared > 0
            and self.score <= SCORE_TOLERANCE
            and self.box_px <= BOX_TOLERANCE_PX
            and self.cosine_distance <= COSINE_DISTANCE_TOLERANCE
        )

    def describe(self, contract: ModelContract) -> str:
        """One line for people."""
        if isinstance(contract, DetectorContract):
            return f"{self.compared} candidates, score within {self.score:.1e}, corners within {self.box_px:.1e} px"
        return f"{self.compared} embeddings, cosine distance within {self.cosine_distance:.1e}"


def check_contract(path: Path, contract: ModelContract) -> None:
    """Raises unless the file declares the contract's names, types and shapes, and its answers keep to them."""
    graph = onnx.load(str(path)).graph
    declared = [_signature(value) for value in (*graph.input, *graph.output)]
    expected = [
        (INPUT_NAME, TensorProto.UINT8, contract.input_shape),
        (contract.output_name, TensorProto.FLOAT, contract.output_shape),
    ]
    if declared != expected:
        raise ConversionError(f"{path} declares {declared}, but the contract is {expected} (name, type, shape)")
    # Not only declared: a runtime may let a graph with a wrong declaration pass.
    answer = run(path, np.zeros((2, *contract.input_shape), np.uint8), contract)
    if answer.shape != (2, *contract.output_shape) or answer.dtype != np.float32:
        raise ConversionError(f"{path} answers {answer.dtype} {answer.shape}, not FP32 (2, {contract.output_shape})")


def check_answers(answers: NDArray[np.float32], contract: ModelContract) -> None:
    """Raises unless the values of the answers are what the contract says they are."""
    if not np.isfinite(answers).all():
        raise ConversionError(f"{contract.name} answers with infinities or NaN: a weight may not fit into float16")
    if not isinstance(contract, DetectorContract):
        if np.abs(np.linalg.norm(answers, axis=1) - 1).max() > NORM_TOLERANCE:
            raise ConversionError(f"{contract.name} gives embeddings whose norm is not 1: is LpNormalization last?")
        return
    scores, classes = answers[..., 4], answers[..., 5]
    if (np.diff(scores, axis=1) > 0).any() or scores.min() < 0 or scores.max() > 1:
        raise ConversionError(f"{contract.name} gives scores out of order or outside 0..1: is a sigmoid missing?")
    if not np.isin(classes, np.arange(contract.classes)).all():
        raise ConversionError(f"{contract.name} gives class ids outside 0..{contract.classes - 1}: which axis is flat?")


def run(path: Path, images: NDArray[np.uint8], contract: ModelContract) -> NDArray[np.float32]:
    """The model's answers to a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (answers,) = session.run([contract.output_name], {INPUT_NAME: images})
    return np.asarray(answers)


def run_singly(path: Path, images: NDArray[np.uint8], contract: ModelContract) -> NDArray[np.float32]:
    """The model's answers to the same images, one request each."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = [session.run([contract.output_name], {INPUT_NAME: image[None]})[0] for image in images]
    return np.concatenate(answers)


def difference(first: NDArray[np.float32], second: NDArray[np.float32], contract: ModelContract) -> Difference:
    """Compares the answers of two models, or of two ways to ask, to the same images."""
    if not isinstance(contract, DetectorContract):
        if first.shape != second.shape:
            raise ConversionError(f"{contract.name}: answers of {first.shape} and {second.shape} cannot be compared")
        one, other = first.astype(np.float64), second.astype(np.float64)
        cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
        return Difference(compared=len(first), cosine_distance=float(np.maximum(1 - cosine, 0).max()))
    parts = [
        _difference_of_candidates(mine, theirs)
        for pair in zip(first, second, strict=True)
        for mine, theirs in (pair, pair[::-1])
    ]
    return Difference(
        compared=sum(part.compared for part in parts[::2]),
        score=max(part.score for part in parts),
        box_px=max(part.box_px for part in parts),
    )


def _difference_of_candidates(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> Difference:
    """Finds each of my rows among theirs, by class and nearest corners; [K, 6] each."""
    floor = max(MIN_SCORE, float(mine[-1, 4]), float(theirs[-1, 4])) + SCORE_TOLERANCE
    rows = mine[mine[:, 4] > floor]
    score = box_px = 0.0
    for row in rows:
        same_class = theirs[theirs[:, 5] == row[5]]
        if not len(same_class):
            return Difference(compared=len(rows), score=float(row[4]))
        corners = np.abs(same_class[:, :4] - row[:4]).max(axis=1)
        # Two anchors may give almost the same box: then the score decides which is meant.
        near = corners <= max(BOX_TOLERANCE_PX, float(corners.min()))
        distance = np.where(near, np.abs(same_class[:, 4] - row[4]), np.inf)
        twin = int(distance.argmin())
        score, box_px = max(score, float(distance[twin])), max(box_px, float(corners[twin]))
    return Difference(compared=len(rows), score=score, box_px=box_px)


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, tuple[int, ...]]:
    """Name, element type and shape without the batch; a batch that is not free shows as an extra 0 in front."""
    tensor = value.type.tensor_type
    batch, *rest = tensor.shape.dim
    shape = tuple(int(dimension.dim_value) for dimension in rest)
    return value.name, int(tensor.elem_type), shape if batch.dim_param else (0, *shape)
