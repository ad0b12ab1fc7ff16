"""Each layout gives back what was laid out in it, and says so where the numbers cannot be of it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoppable.detector.detections import Candidates
from shoppable.detector.layouts import MOST_CANDIDATES, Layout, LayoutError, layout_of
from shoppable.detector.manifest import ModelSpec

WIDTH, HEIGHT = 64, 96
STRIDES = (8, 16, 32)
LABELS = ("cup", "shoe", "bag")
Array = npt.NDArray[Any]
# A thing: a box in whole pixels of the input, a score in 64ths, a label.
THINGS = st.lists(
    st.tuples(
        st.integers(0, WIDTH - 9),
        st.integers(0, HEIGHT - 9),
        st.integers(1, 8),
        st.integers(1, 8),
        st.integers(1, 63),
        st.integers(0, len(LABELS) - 1),
    ),
    max_size=6,
)
# Where a model's class numbers are those of the labels, with a background before, or with gaps.
NUMBERS = st.sampled_from([{}, {"first_class": 1}, {"class_numbers": (7, 2, 4)}])


def spec(output: dict[str, Any], **fields: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "labels": LABELS, "min_score": 0.1, "output": output, **fields})


def read(layout: Layout, **outputs: Array) -> Candidates:
    return layout.read(outputs, width=WIDTH, height=HEIGHT)


def arrays(things: list[tuple[int, ...]]) -> tuple[Array, Array, Array]:
    """Boxes by their corners, scores, labels."""
    table = np.array(things, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return boxes, table[:, 4] / 64, table[:, 5].astype(np.intp)


def centers(boxes: Array) -> Array:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def shares(boxes: Array) -> Array:
    return boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)


def one_hot(scores: Array, labels: Array, numbers: Any, width: int) -> Array:
    table = np.zeros((len(scores), width), np.float32)
    table[np.arange(len(scores)), np.array(numbers, np.intp)[labels]] = scores
    return table


def same(found: Candidates, boxes: Array, scores: Array, labels: Array) -> None:
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    assert found.classes.tolist() == labels.tolist()


@settings(deadline=None)
@given(THINGS, NUMBERS, st.sampled_from(["corners", "center"]), st.sampled_from(["pixels", "shares"]), st.booleans())
def test_finished_detections_are_read_whatever_form_their_boxes_have(
    things: list[tuple[int, ...]], numbers: dict[str, Any], form: str, units: str, in_rows: bool
) -> None:
    model = spec({"layout": "candidates" if in_rows else "detections", "boxes": form, "units": units}, **numbers)
    boxes, scores, labels = arrays(things)
    given_boxes = centers(boxes) if form == "center" else boxes
    given_boxes = shares(given_boxes) if units == "shares" else given_boxes
    classes = np.array(model.numbers, np.float32)[labels]
    if in_rows:
        found = read(layout_of(model), candidates=np.column_stack([given_boxes, scores, classes]))
    else:
        found = read(layout_of(model), labels=classes.astype(np.int64), boxes=given_boxes, scores=scores)

    same(found, boxes, scores, labels)


@settings(deadline=None)
@given(THINGS, NUMBERS)
def test_yolov8_and_yolov5_are_read(things: list[tuple[int, ...]], numbers: dict[str, Any]) -> None:
    v8, v5 = (spec({"layout": layout}, **numbers) for layout in ("yolov8", "yolov5"))
    boxes, scores, labels = arrays(things)
    classes = one_hot(scores, labels, v8.numbers, max(v8.numbers) + 1)
    objectness = np.full((len(scores), 1), 0.5, np.float32)

    same(read(layout_of(v8), output0=np.concatenate([centers(boxes), classes], axis=1).T), boxes, scores, labels)
    rows = np.concatenate([centers(boxes), objectness, classes], axis=1)
    same(read(layout_of(v5), output0=rows), boxes, scores / 2, labels)


@settings(deadline=None)
@given(st.data())
def test_yolox_boxes_are_told_from_their_cells(data: st.DataObject) -> None:
    model = spec({"layout": "yolox"})
    cells = [
        (stride, column, row)
        for stride in STRIDES
        for row in range(HEIGHT // stride)
        for column in range(WIDTH // stride)
    ]
    at = data.draw(st.lists(st.integers(0, len(cells) - 1), unique=True, max_size=6).map(sorted))
    things = [(1, 1, 4, 6, 32, 1 + index % 2) for index in range(len(at))]
    _, scores, labels = arrays(things)
    table = np.zeros((len(cells), 5 + len(LABELS)), np.float32)
    expected = []
    for place, score, label in zip(at, scores, labels, strict=True):
        stride, column, row = cells[place]
        table[place, :4] = 0.25, 0.5, np.log(1.5), np.log(2)
        table[place, 4:6] = 0.5, 0
        table[place, 5 + label] = score
        x, y, half_width, half_height = (column + 0.25) * stride, (row + 0.5) * stride, 0.75 * stride, stride
        expected.append((x - half_width, y - half_height, x + half_width, y + half_height))

    same(read(layout_of(model), output=table), np.array(expected).reshape(-1, 4), scores / 2, labels)


@settings(deadline=None)
@given(THINGS, NUMBERS)
def test_detr_s_softmax_leaves_out_the_class_of_nothing(things: list[tuple[int, ...]], numbers: dict[str, Any]) -> None:
    model = spec({"layout": "detr", "scores": "softmax"}, **numbers)
    boxes, scores, labels = arrays(things)
    likely = one_hot(scores, labels, model.numbers, max(model.numbers) + 2)
    likely[:, -1] = 1 - scores
    logits = np.log(np.maximum(likely, 1e-12)) + 3  # adding a constant changes nothing
    found = read(layout_of(model), logits=logits, pred_boxes=shares(centers(boxes)))

    same(found, boxes, scores, labels)


def test_detr_s_sigmoid_lets_a_query_be_several_things() -> None:
    layout = layout_of(spec({"layout": "detr"}, first_class=1))
    logits = np.array([[9, 0, -20, 2]], np.float16)

    found = read(layout, logits=logits, pred_boxes=np.array([[0.5, 0.5, 0.5, 0.5]], np.float16))

    assert [round(score, 3) for score in found.scores.tolist()] == [0.5, 0.0, 0.881]
    assert found.classes.tolist() == [0, 1, 2]
    assert found.boxes.tolist() == [[16, 24, 48, 72]] * 3


@pytest.mark.parametrize(
    ("output", "shapes"),
    [
        ({"layout": "candidates"}, {"candidates": (None, 6)}),
        ({"layout": "detections"}, {"labels": (None,), "boxes": (None, 4), "scores": (None,)}),
        ({"layout": "detr"}, {"logits": (None, 92 - 1), "pred_boxes": (None, 4)}),
        ({"layout": "detr", "scores": "softmax"}, {"logits": (None, 92), "pred_boxes": (None, 4)}),
        ({"layout": "yolov8"}, {"output0": (95, None)}),
        ({"layout": "yolov5"}, {"output0": (None, 96)}),
        ({"layout": "yolox"}, {"output": (96 + 24 + 6, 96)}),
    ],
)
def test_outputs_that_a_layout_needs_follow_from_labels_and_input(
    output: dict[str, str], shapes: dict[str, tuple[int | None, ...]]
) -> None:
    layout = layout_of(spec(output, class_numbers=(1, 90, 13)))

    assert {tensor.name: tensor.shape for tensor in layout.tensors(width=WIDTH, height=HEIGHT)} == shapes


def test_yolox_with_strides_that_do_not_divide_the_input_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"output\.strides: \[32\] do not divide the input's 48 x 64"):
        layout_of(spec({"layout": "yolox"})).tensors(width=48, height=64)


def test_rows_with_no_numbers_or_no_score_are_left_out() -> None:
    rows = [[1, 2, 3, 4, np.nan, 1], [5, 6, np.inf, 8, 0.5, 0], [1, 2, 3, 4, 0.5, 1], [0, 0, 0, 0, 0, -1]]

    found = read(layout_of(spec({"layout": "candidates"})), candidates=np.array(rows))

    assert found.classes.tolist() == [1]


def test_classes_without_a_label_are_left_out_and_those_beyond_are_a_mismatch() -> None:
    layout = layout_of(spec({"layout": "candidates"}, class_numbers=(7, 2, 4)))

    def row(number: float) -> Array:
        return np.array([[1, 2, 3, 4, 0.5, number]])

    assert len(read(layout, candidates=row(3))) == 0
    assert read(layout, candidates=row(7)).classes.tolist() == [0]
    for number in (8, -1):
        with pytest.raises(LayoutError, match=f"a class number is {number}, and those of the labels end at 7"):
            read(layout, candidates=row(number))


def test_score_above_1_is_a_mismatch_and_a_rounded_1_is_none() -> None:
    layout = layout_of(spec({"layout": "yolov8"}))
    column = np.array([[8, 8, 4, 4, 0.1, 1.001, 0]], np.float32).T

    assert read(layout, output0=column).scores.tolist() == [1]
    column[5] = 4.5
    with pytest.raises(LayoutError, match=r"a score is 4\.5, and scores are 0\.\.1"):
        read(layout, output0=column)


def test_of_thousands_of_proposals_only_the_best_go_on() -> None:
    generator = np.random.default_rng(5)
    table = generator.random((4 + len(LABELS), 8400)).astype(np.float32)
    table[4:] /= 2
    table[4, ::10] = 0.9

    found = read(layout_of(spec({"layout": "yolov8"})), output0=table)

    assert len(found) == MOST_CANDIDATES
    assert (found.scores >= 0.9).sum() == 840
    # Suppression decides between equals by the model's order: it is kept.
    boxes = table[:2].T - table[2:4].T / 2
    places = [int(np.flatnonzero((boxes == box[:2]).all(axis=1))[0]) for box in found.boxes]
    assert places == sorted(places)
