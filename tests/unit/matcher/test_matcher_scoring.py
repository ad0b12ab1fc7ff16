"""The order of products, and how sure it is."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.matcher import hints
from shoppable.matcher.calibration import Calibration, Decision, Thresholds, load_calibration, parse_calibration
from shoppable.matcher.ports import ImageHit
from shoppable.matcher.scoring import ViewHits, likeness, rank

SHARE = st.floats(min_value=0, max_value=1)
COSINE = st.floats(min_value=-1, max_value=1)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return load_calibration()


def hit(product_id: str, similarity: float, *, image: str = "1", category: str = "") -> ImageHit:
    return ImageHit(product_id, image, f"{image}.jpg", category, similarity)


def test_a_products_best_image_counts() -> None:
    views = [ViewHits([hit("a", 0.5), hit("a", 0.9, image="2"), hit("b", 0.8)], None)]
    first, second = rank(views)
    assert (first.product_id, first.image_id, first.image_uri) == ("a", "2", "2.jpg")
    assert first.similarity == pytest.approx(0.9)
    assert first.margin == pytest.approx(0.1)
    assert second.margin == pytest.approx(-0.1)


def test_views_are_added_up_and_the_best_one_is_named() -> None:
    views = [
        ViewHits([hit("a", 0.6), hit("b", 0.7)], None),
        ViewHits([hit("a", 0.9), hit("b", 0.5)], None),
    ]
    first, second = rank(views)
    assert (first.product_id, first.view_index) == ("a", 1)
    assert first.similarity == pytest.approx(0.75)
    assert second.similarity == pytest.approx(0.6)


def test_it_is_told_how_many_views_agree() -> None:
    views = [
        ViewHits([hit("a", 0.9), hit("b", 0.5)], None),
        ViewHits([hit("a", 0.6), hit("b", 0.7)], None),
        ViewHits([hit("a", 0.7), hit("b", 0.7)], {("a", "1"): 0.9, ("b", "1"): 0.2}),
        ViewHits([], None),
    ]
    first, second = rank(views, category_hint="mugs")
    assert [(one.product_id, one.agreeing_views, one.views) for one in (first, second)] == [("a", 2, 4), ("b", 1, 4)]


def test_colour_turns_a_near_tie() -> None:
    images = [hit("navy", 0.80), hit("teal", 0.79)]
    assert rank([ViewHits(images, None)])[0].product_id == "navy"
    assert rank([ViewHits(images, {("navy", "1"): 0.2, ("teal", "1"): 0.9})])[0].product_id == "teal"


def test_evidence_is_the_cosine_of_the_embeddings_alone() -> None:
    (only,) = rank([ViewHits([hit("a", 0.6)], {("a", "1"): 1.0})])
    assert only.view_similarity == pytest.approx(0.6)
    assert only.similarity > 0.6
    assert only.margin is None


def test_a_hint_decides_near_ties_only() -> None:
    near = [ViewHits([hit("a", 0.800), hit("b", 0.799, category="Mugs")], None)]
    far = [ViewHits([hit("a", 0.8 + hints.AGREES), hit("b", 0.7, category="Mugs")], None)]
    assert rank(near, category_hint="mugs")[0].product_id == "b"
    assert rank(far, category_hint="mugs")[0].product_id == "a"


def test_what_the_catalogue_does_not_sell_is_less_sure(calibration: Calibration) -> None:
    images = [hit("a", 0.33, category="computers"), hit("b", 0.31, category="bottles")]

    def sure(hint: str) -> float:
        first = rank([ViewHits(images, None)], category_hint=hint)[0]
        assert (first.product_id, first.similarity) == ("a", pytest.approx(0.33))
        return calibration.confidence(first.score, first.margin, with_colour=False)

    assert sure("tables") < sure("") <= sure("computers")
    assert sure("Tables") == sure("tables")


def test_a_hint_of_other_words_than_the_catalogues_says_nothing() -> None:
    own_words = [ViewHits([hit("a", 0.8, category="Home > Kitchen > Mugs"), hit("b", 0.79)], None)]
    assert [one.score for one in rank(own_words, category_hint="drinkware")] == [0.8, 0.79]
    foreign_hint = [ViewHits([hit("a", 0.8, category="drinkware")], None)]
    assert rank(foreign_hint, category_hint="Tassen")[0].score == 0.8


def test_a_wrong_hint_is_no_wall() -> None:
    clear = [ViewHits([hit("mug", 0.75, category="drinkware"), hit("bowl", 0.6, category="tableware")], None)]
    assert rank(clear, category_hint="tableware")[0].product_id == "mug"


@pytest.mark.parametrize(
    ("hint", "category", "worth"),
    [
        ("footwear", "footwear", hints.AGREES),
        ("footwear", "FOOTWEAR", hints.AGREES),
        ("footwear", "apparel-upper", hints.DISAGREES),
        ("footwear", "fashion", 0),  # a shoe is fashion
        ("fashion", "footwear", 0),
        ("fashion", "drinkware", hints.DISAGREES),
        ("footwear", "sneakers", 0),
        ("", "footwear", 0),
    ],
)
def test_a_category_and_what_it_is_a_part_of_do_not_disagree(hint: str, category: str, worth: float) -> None:
    assert hints.worth(hint, category) == worth


def test_nothing_found_is_no_candidate() -> None:
    assert rank([ViewHits([], None)]) == []


@given(COSINE, SHARE)
def test_likeness_stays_in_range_and_the_same_picture_is_1(embedding: float, colour: float) -> None:
    assert -1 <= likeness(embedding, colour) <= 1
    assert likeness(1, 1) == pytest.approx(1)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), COSINE), min_size=2, max_size=20), st.booleans())
def test_confidence_keeps_the_order(found: list[tuple[str, float]], with_colour: bool) -> None:
    calibration = load_calibration()
    ranked = rank([ViewHits([hit(product, value) for product, value in found], None)])
    sure = [calibration.confidence(candidate.score, candidate.margin, with_colour=with_colour) for candidate in ranked]
    assert all(one >= other - 1e-12 for one, other in pairwise(sure))
    assert all(0 <= one <= 1 for one in sure)


@given(COSINE, COSINE, COSINE, st.booleans())
def test_confidence_grows_with_likeness_and_with_margin(
    one: float, other: float, margin: float, with_colour: bool
) -> None:
    calibration, low, high = load_calibration(), min(one, other), max(one, other)
    sure = calibration.confidence
    assert sure(low, margin, with_colour=with_colour) <= sure(high, margin, with_colour=with_colour)
    assert sure(margin, low, with_colour=with_colour) <= sure(margin, high, with_colour=with_colour)


def test_decisions_are_taken_at_the_thresholds() -> None:
    thresholds = Thresholds(match=0.7, similar=0.2)
    decided = [thresholds.decide(value) for value in (0.7, 0.69, 0.2, 0.19)]
    assert decided == [Decision.MATCH, Decision.SIMILAR, Decision.SIMILAR, Decision.NO_MATCH]


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"plain": {}}, {"plain": {"intercept": 0, "score": -1, "margin": 0}}, {"plain": None}]
)
def test_a_calibration_that_cannot_be_right_is_refused(change: dict[str, object]) -> None:
    one = {"intercept": 0, "score": 1, "margin": 1}
    values = json.loads(json.dumps({"format": 1, "with_colour": one, "plain": one} | change))
    with pytest.raises(ValueError):
        parse_calibration(values)
