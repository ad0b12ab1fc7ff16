"""Where the clothes of a person are told to be, and that what a model saw itself is left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoppable.detector.apparel import Box, Region, regions
from shoppable.detector.deriving import with_apparel
from shoppable.detector.detections import Detection

WIDTH, HEIGHT = 600, 1000
UPPER, LOWER, FEET = Region.UPPER_BODY, Region.LOWER_BODY, Region.FEET
OUTFIT, PERSON = Region.WHOLE_OUTFIT, Region.WHOLE_PERSON
STANDING: Box = (0.4, 0.1, 0.8, 0.9)  # 240 x 800 pixels
CATEGORIES = {
    UPPER: "apparel-upper",
    LOWER: "apparel-lower",
    FEET: "footwear",
    OUTFIT: "apparel-outfit",
    PERSON: "apparel",
}
SHARES = st.floats(0, 1, width=32)


def told(person: Box) -> dict[Region, tuple[float, float]]:
    """Top and bottom of each region, as shares of the person's own height."""
    height = person[3] - person[1]
    found = regions(person, width=WIDTH, height=HEIGHT)
    assert all((box[0], box[2]) == (person[0], person[2]) for box in found.values())
    return {region: ((box[1] - person[1]) / height, (box[3] - person[1]) / height) for region, box in found.items()}


def test_standing_person_has_all_regions_from_chin_to_floor() -> None:
    found = told(STANDING)

    assert set(found) == {UPPER, LOWER, FEET, OUTFIT}
    assert found[UPPER] == pytest.approx((0.13, 0.52))
    assert found[LOWER] == pytest.approx((0.40, 0.96))
    assert found[FEET] == pytest.approx((0.86, 1.0))
    assert found[OUTFIT] == pytest.approx((0.13, 1.0))


@pytest.mark.parametrize(
    ("bottom_of_the_body", "expected"),
    [
        (0.28, set()),  # head and shoulders
        (0.45, {UPPER, OUTFIT}),
        (0.60, {UPPER, OUTFIT}),
        (0.75, {UPPER, LOWER, OUTFIT}),
        (0.93, {UPPER, LOWER, OUTFIT}),
    ],
)
def test_person_cut_by_the_lower_edge_has_what_is_in_the_picture(
    bottom_of_the_body: float, expected: set[Region]
) -> None:
    """The same person, nearer and nearer: 0.30 of the stature wide, and cut where the picture ends."""
    down = bottom_of_the_body / 0.30 * 240 / HEIGHT
    top = 1 - down if down < 1 else 0.02
    scale = (1 - top) / down
    person = (0.5 - 0.2 * scale, top, 0.5 + 0.2 * scale, 1.0)

    found = told(person)

    assert set(found) == expected
    if UPPER in found:
        assert found[UPPER][0] == pytest.approx(0.13 / bottom_of_the_body, abs=1e-3)
        assert found[UPPER][1] == pytest.approx(min(0.52 / bottom_of_the_body, 1), abs=1e-3)


def test_person_without_a_head_in_the_picture_is_told_from_the_feet_up() -> None:
    found = told((0.4, 0.0, 0.6, 0.2))  # 120 x 200 pixels: the lower half of one of 400

    assert set(found) == {LOWER, FEET, OUTFIT}
    assert found[LOWER] == pytest.approx((0.0, 0.92), abs=1e-3)
    assert found[FEET] == pytest.approx((0.72, 1.0), abs=1e-3)


@pytest.mark.parametrize(
    "person",
    [
        (0.2, 0.0, 0.8, 1.0),  # neither head nor feet
        (0.0, 0.2, 0.3, 1.0),  # cut at the side: the width says nothing
        (0.1, 0.5, 0.9, 0.8),  # lies
    ],
)
def test_person_whose_posture_is_unclear_is_one_region(person: Box) -> None:
    assert told(person) == {PERSON: pytest.approx((0, 1))}


def test_person_too_small_for_a_garment_has_no_regions() -> None:
    assert regions((0.5, 0.5, 0.52, 0.56), width=WIDTH, height=HEIGHT) == {}
    assert FEET not in regions((0.5, 0.5, 0.54, 0.6), width=WIDTH, height=HEIGHT)


@settings(deadline=None)
@given(SHARES, SHARES, SHARES, SHARES, st.integers(1, 4000), st.integers(1, 4000))
def test_regions_lie_within_the_person_s_box(a: float, b: float, c: float, d: float, width: int, height: int) -> None:
    person = (min(a, b), min(c, d), max(a, b), max(c, d))

    for box in regions(person, width=width, height=height).values():
        assert box[0] == person[0] < box[2] == person[2]
        assert person[1] - 1e-9 <= box[1] < box[3] <= person[3] + 1e-9
        assert (box[3] - box[1]) * height >= 15.99


def person(box: Box = STANDING, score: float = 0.8) -> Detection:
    return Detection("Person", "", False, box, score, "wearables", "person")


def shoe(box: Box) -> Detection:
    return Detection("boot", "footwear", True, box, 0.5, "wearables", "footwear")


def derived(*found: Detection) -> dict[str, Detection]:
    made = with_apparel(found, CATEGORIES, width=WIDTH, height=HEIGHT)
    assert tuple(made[: len(found)]) == found
    return {one.label: one for one in made[len(found) :]}


def test_region_tells_its_person_and_has_its_score_and_model() -> None:
    made = derived(person())

    assert list(made) == ["upper body", "lower body", "feet", "whole outfit"]
    upper = made["upper body"]
    assert (upper.category, upper.for_sale, upper.score, upper.model) == ("apparel-upper", True, 0.8, "wearables")
    assert upper.derivation is not None
    assert (upper.derivation.label, upper.derivation.box) == ("Person", STANDING)


def test_shoe_that_a_model_saw_stands_for_the_feet_and_one_elsewhere_does_not() -> None:
    at_the_feet, beside, above = (0.5, 0.85, 0.6, 0.9), (0.1, 0.85, 0.2, 0.9), (0.5, 0.3, 0.6, 0.35)

    assert set(derived(person(), shoe(at_the_feet))) == {"upper body", "lower body", "whole outfit"}
    assert "feet" in derived(person(), shoe(beside))
    assert "feet" in derived(person(), shoe(above))
    bag = Detection("handbag", "bags", True, at_the_feet, 0.5, "coco", "handbag")
    assert "feet" in derived(person(), bag)


def test_regions_without_a_category_are_not_derived_and_others_than_people_have_none() -> None:
    assert [one.label for one in with_apparel([person()], {UPPER: "tops"}, width=WIDTH, height=HEIGHT)] == [
        "Person",
        "upper body",
    ]
    assert derived(shoe(STANDING)) == {}
