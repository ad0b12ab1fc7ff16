"""Reads what a model puts out, one reader for each layout that a manifest may name."""

from shoppable.detector.layouts.detr import DetrLayout
from shoppable.detector.layouts.layout import MOST_CANDIDATES, Layout, LayoutError, Tensor
from shoppable.detector.layouts.rows import CandidatesLayout, DetectionsLayout
from shoppable.detector.layouts.yolo import YoloV5Layout, YoloV8Layout, YoloxLayout
from shoppable.detector.manifest import (
    CandidatesOutput,
    DetectionsOutput,
    DetrOutput,
    ModelSpec,
    YoloV5Output,
    YoloV8Output,
)

__all__ = ["MOST_CANDIDATES", "Layout", "LayoutError", "Tensor", "layout_of"]


def layout_of(spec: ModelSpec) -> Layout:
    """Return the reader of what a model puts out."""
    output, numbers = spec.output, spec.numbers
    if isinstance(output, CandidatesOutput):
        return CandidatesLayout(output, numbers)
    if isinstance(output, DetectionsOutput):
        return DetectionsLayout(output, numbers)
    if isinstance(output, DetrOutput):
        return DetrLayout(output, numbers)
    if isinstance(output, YoloV8Output):
        return YoloV8Layout(output, numbers)
    if isinstance(output, YoloV5Output):
        return YoloV5Layout(output, numbers)
    return YoloxLayout(output, numbers)
