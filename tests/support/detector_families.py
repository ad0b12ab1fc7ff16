"""One small detector of each family of layouts, and between them every form of input that a manifest can declare."""

from collections.abc import Sequence

import numpy as np

from support.onnx_detectors import (
    BOXES,
    LIKELY,
    LOGIT,
    SCORE,
    SIDE,
    STRIDES,
    UNLIKELY,
    Array,
    Detector,
    Output,
    constant,
)

COCO_NUMBERS = (1, 18, 90, 44)  # of 91, as DETR counts
_CENTERS = np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], axis=1)
_THINGS = range(len(BOXES))
_NEVER = -30.0  # a logit of what is not there


def _made_of(name: str, base: Array, places: Sequence[tuple[tuple[int, ...], int]]) -> Output:
    """An output with a feature of each thing at a place."""
    slopes = np.zeros((4, 4, *base.shape), np.float32)
    for thing, (place, feature) in enumerate(places):
        slopes[(thing, feature, *place)] = 1
    return Output(name, base, slopes)


def _candidates() -> Detector:
    base = np.column_stack([BOXES, np.zeros(4), np.arange(4)])
    rows = _made_of("candidates", base, [((thing, 4), SCORE) for thing in _THINGS])
    return Detector("end_to_end", [rows], "[output]\nlayout = 'candidates'\n")


def _detections() -> Detector:
    outputs = [
        constant("labels", np.arange(1, 5), integer=True),
        constant("boxes", BOXES / SIDE, scaled_to_size=True),
        _made_of("scores", np.zeros(4), [((thing,), SCORE) for thing in _THINGS]),
    ]
    manifest = (
        "nms = false\nfirst_class = 1\n[input]\ndtype = 'fp32'\norder = 'nchw'\nfit = 'stretch'\n"
        "size_name = 'orig_target_sizes'\n[output]\nlayout = 'detections'\n"
    )
    return Detector("rt_detr", outputs, manifest, "fp32", "nchw", normalised="shares", size_name="orig_target_sizes")


def _sigmoid_queries() -> Detector:
    logits = np.full((5, 4), _NEVER)
    logits[_THINGS, _THINGS] = 0
    outputs = [
        _made_of("logits", logits, [((thing, thing), LOGIT) for thing in _THINGS]),
        constant("pred_boxes", np.concatenate([_CENTERS, np.ones((1, 4))]) / SIDE),
    ]
    manifest = (
        "nms = false\n[input]\ndtype = 'fp32'\norder = 'nchw'\nfit = 'stretch'\nmean = [0.485, 0.456, 0.406]\n"
        "std = [0.229, 0.224, 0.225]\n[output]\nlayout = 'detr'\n"
    )
    return Detector("d_fine", outputs, manifest, "fp32", "nchw", normalised="imagenet", rows=1)


def _softmax_queries() -> Detector:
    logits = np.full((4, 92), _NEVER)
    logits[_THINGS, COCO_NUMBERS] = 0
    logits[:, -1] = 0
    scores = _made_of("logits", logits, [((thing, number), LIKELY) for thing, number in enumerate(COCO_NUMBERS)])
    scores.slopes[_THINGS, UNLIKELY, _THINGS, -1] = 1
    manifest = (
        f"class_numbers = {list(COCO_NUMBERS)}\n[input]\nwidth = {SIDE}\nheight = {SIDE}\ndtype = 'fp32'\n"
        "order = 'nchw'\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
        "[output]\nlayout = 'detr'\nscores = 'softmax'\n"
    )
    outputs = [scores, constant("pred_boxes", _CENTERS / SIDE)]
    return Detector("detr", outputs, manifest, "fp32", "nchw", normalised="imagenet", free_size=True)


def _yolov8() -> Detector:
    columns = np.concatenate([_CENTERS.T, np.zeros((4, 4))])
    outputs = [_made_of("output0", columns, [((4 + thing, thing), SCORE) for thing in _THINGS])]
    manifest = "[input]\ndtype = 'fp16'\norder = 'nchw'\npadding = 114\n[output]\nlayout = 'yolov8'\n"
    return Detector("yolo_v8", outputs, manifest, "fp16", "nchw", normalised="shares", rows=4)


def _yolov5() -> Detector:
    rows = np.concatenate([_CENTERS, np.full((4, 1), 0.5), np.zeros((4, 4))], axis=1)
    outputs = [_made_of("output0", rows, [((thing, 5 + thing), SCORE) for thing in _THINGS])]
    manifest = "[input]\norder = 'nchw'\ncolor = 'bgr'\nalign = 'top-left'\n[output]\nlayout = 'yolov5'\n"
    return Detector("yolo_v5", outputs, manifest, "uint8", "nchw", "bgr", rows="none")


def _yolox() -> Detector:
    cells = [
        (stride, column, row) for stride in STRIDES for row in range(SIDE // stride) for column in range(SIDE // stride)
    ]
    chosen = [10, 37, 70, 82]  # of the first, the first, the second and the third grid
    rows = np.zeros((len(cells), 9))
    for thing, place in enumerate(chosen):
        stride, column, row = cells[place]
        rows[place, :2] = _CENTERS[thing, :2] / stride - (column, row)
        rows[place, 2:4] = np.log(_CENTERS[thing, 2:] / stride)
        rows[place, 4] = 0.5
    scores = [((place, 5 + thing), SCORE) for thing, place in enumerate(chosen)]
    manifest = (
        "[input]\ndtype = 'fp32'\norder = 'nchw'\ncolor = 'bgr'\ndivide_by = 1\nalign = 'top-left'\npadding = 114\n"
        "[output]\nlayout = 'yolox'\n"
    )
    return Detector("yolox", [_made_of("output", rows, scores)], manifest, "fp32", "nchw", "bgr")


FAMILIES = {
    detector.name: detector
    for detector in (
        _candidates(),
        _detections(),
        _sigmoid_queries(),
        _softmax_queries(),
        _yolov8(),
        _yolov5(),
        _yolox(),
    )
}
