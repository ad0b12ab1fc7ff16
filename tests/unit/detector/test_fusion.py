import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.detector.detections import Candidates, Detection, DetectionOptions
from shoppable.detector.fusion import Findings, fuse
from shoppable.detector.taxonomy import Sort

COCO = (Sort("person", "", "person"), Sort("cup", "drinkware", "cup"), Sort("bowl", "tableware", "bowl"))
WEARABLES = (Sort("Person", "", "person"), Sort("Mug", "drinkware", "cup"), Sort("Coffee cup", "drinkware", "cup"))
PERSON, CUP, BOWL = range(3)
MUG, COFFEE_CUP = 1, 2
HERE = (0.1, 0.1, 0.5, 0.5)
NEARLY_HERE = (0.1, 0.1, 0.5, 0.48)  # overlaps HERE by 0.95
BESIDE = (0.2, 0.1, 0.6, 0.5)  # overlaps HERE by 0.6
ELSEWHERE = (0.6, 0.6, 0.9, 0.9)
Row = tuple[int, tuple[float, float, float, float], float]


def findings(model: str, sorts: Sequence[Sort], *rows: Row) -> Findings:
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, _, score in rows], np.float32)
    return Findings(model, sorts, Candidates(boxes, scores, np.array([index for index, _, _ in rows], np.intp)))


def fused(
    coco: Sequence[Row] = (), wearables: Sequence[Row] = (), options: DetectionOptions | None = None
) -> list[tuple[str, float]]:
    found = fuse(
        [findings("coco", COCO, *coco), findings("wearables", WEARABLES, *wearables)],
        options or DetectionOptions(),
        iou=0.55,
    )
    return [(one.label, pytest.approx(one.score)) for one in found]


def test_thing_found_by_both_models_is_one_and_has_the_better_score() -> None:
    assert fused([(CUP, HERE, 0.6)], [(MUG, NEARLY_HERE, 0.7)]) == [("Mug", 0.7)]
    assert fused([(CUP, HERE, 0.8)], [(MUG, NEARLY_HERE, 0.7)]) == [("cup", 0.8)]


def test_of_equal_scores_the_first_model_s_stays() -> None:
    assert fused([(CUP, HERE, 0.5)], [(MUG, HERE, 0.5)]) == [("cup", 0.5)]


def test_labels_of_one_kind_of_one_model_are_fused() -> None:
    assert fused([], [(MUG, HERE, 0.5), (COFFEE_CUP, NEARLY_HERE, 0.6)]) == [("Coffee cup", 0.6)]


def test_two_of_one_label_that_their_model_kept_apart_stay_two() -> None:
    assert fused([(CUP, HERE, 0.6), (CUP, BESIDE, 0.5)]) == [("cup", 0.6), ("cup", 0.5)]


def test_things_of_different_kinds_or_places_stay() -> None:
    assert fused([(CUP, HERE, 0.6), (BOWL, HERE, 0.5)], [(MUG, ELSEWHERE, 0.7)]) == [
        ("Mug", 0.7),
        ("cup", 0.6),
        ("bowl", 0.5),
    ]


def guessing(*rows: Row, sure_from: float = 0.4) -> Findings:
    return dataclasses.replace(findings("wearables", WEARABLES, *rows), sure_from=sure_from)


def test_a_later_model_s_guesses_at_what_an_earlier_one_knows_are_left_out_and_what_it_is_sure_of_stays() -> None:
    coco = findings("coco", COCO, (CUP, HERE, 0.05), (CUP, ELSEWHERE, 0.3))
    guess, sure = guessing((MUG, NEARLY_HERE, 0.39)), guessing((MUG, NEARLY_HERE, 0.4))

    assert [one.score for one in fuse([coco, guess], DetectionOptions(), iou=0.55)] == pytest.approx([0.3, 0.05])
    assert [one.score for one in fuse([coco, sure], DetectionOptions(), iou=0.55)] == pytest.approx([0.4, 0.3])
    # The model that was asked first, or alone, may guess: its order is its own.
    assert len(fuse([guess], DetectionOptions(), iou=0.55)) == 1
    assert len(fuse([guess, coco], DetectionOptions(), iou=0.55)) == 2


def test_guesses_at_what_only_that_model_knows_stay() -> None:
    shoes = (*WEARABLES, Sort("footwear", "footwear", "footwear"))
    guess = Findings("wearables", shoes, findings("w", shoes, (3, HERE, 0.1), (MUG, ELSEWHERE, 0.1)).found, 0.4)

    found = fuse([findings("coco", COCO, (CUP, BESIDE, 0.2)), guess], DetectionOptions(), iou=0.55)

    assert [(one.label, one.score) for one in found] == [("cup", pytest.approx(0.2)), ("footwear", pytest.approx(0.1))]


def test_what_is_not_for_sale_comes_only_when_asked_for_and_is_fused_too() -> None:
    rows: tuple[Sequence[Row], Sequence[Row]] = ([(PERSON, HERE, 0.9), (CUP, HERE, 0.5)], [(0, NEARLY_HERE, 0.8)])

    assert fused(*rows) == [("cup", 0.5)]
    assert fused(*rows, DetectionOptions(include_not_for_sale=True)) == [("person", 0.9), ("cup", 0.5)]


def test_only_wanted_categories_come() -> None:
    rows: Sequence[Row] = [(CUP, HERE, 0.5), (BOWL, HERE, 0.6), (PERSON, HERE, 0.9)]

    assert fused(rows, options=DetectionOptions(categories=frozenset({"drinkware"}))) == [("cup", 0.5)]


def test_most_detections_are_the_best_ones_of_those_wanted() -> None:
    rows: Sequence[Row] = [(PERSON, HERE, 0.9), (CUP, HERE, 0.5), (BOWL, HERE, 0.6)]

    assert fused(rows, options=DetectionOptions(max_detections=1)) == [("bowl", 0.6)]


def test_nothing_found_is_nothing() -> None:
    assert fused() == []


BOXES = st.tuples(*[st.integers(0, 8).map(lambda n: n / 10)] * 2, *[st.integers(1, 4).map(lambda n: n / 10)] * 2).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
ROWS = st.lists(st.tuples(st.integers(0, 2), BOXES, st.integers(1, 9).map(lambda n: n / 10)), max_size=8)


@given(coco=ROWS, wearables=ROWS)
def test_fusion_only_leaves_out_and_each_loser_has_a_better_one_of_its_kind(
    coco: list[Row], wearables: list[Row]
) -> None:
    everything = DetectionOptions(include_not_for_sale=True, max_detections=300)
    both = [findings("coco", COCO, *coco), findings("wearables", WEARABLES, *wearables)]
    unfused = fuse(both, everything, iou=1.0)
    result = fuse(both, everything, iou=0.55)
    kinds = {(one.model, sort.label): sort.kind for one in both for sort in one.sorts}

    def kind(one: Detection) -> str:
        return kinds[one.model, one.label]

    assert set(result) <= set(unfused)
    assert [one.score for one in result] == sorted((one.score for one in result), reverse=True)
    for lost in set(unfused) - set(result):
        assert any(kind(won) == kind(lost) and won.score >= lost.score for won in result)


def test_what_is_derived_follows_from_all_that_was_found_and_is_chosen_and_ordered_with_it() -> None:
    seen: list[str] = []

    def derive(found: Sequence[Detection]) -> Sequence[Detection]:
        seen.extend(one.label for one in found)
        return [*found, Detection("feet", "footwear", True, HERE, 0.7, "coco")]

    people_and_cups = [findings("coco", COCO, (PERSON, HERE, 0.7), (CUP, ELSEWHERE, 0.9), (BOWL, ELSEWHERE, 0.5))]
    options = DetectionOptions(categories=frozenset({"footwear", "drinkware", "tableware"}), max_detections=2)

    found = fuse(people_and_cups, options, iou=0.55, derive=derive)

    assert seen == ["cup", "person", "bowl"]
    assert [one.label for one in found] == ["cup", "feet"]
