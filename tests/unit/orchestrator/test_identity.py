import numpy as np
import pytest

from shoppable.orchestrator.domain import Box, Decision, Detection, MatchOutcome, Segment, View
from shoppable.orchestrator.following import EndedTrack
from shoppable.orchestrator.identity import Identities
from shoppable.orchestrator.tracking import Sighting, Track
from shoppable.v1 import product_catalog_pb2, product_matcher_pb2

A, B = np.eye(2, dtype=np.float32)
MIXED = np.array([0.6, 0.8], np.float32)


def matched(start_s, end_s, *, looks=A, product=None, category="drinkware", left=0.1):
    box = Box(left, 0.1, left + 0.2, 0.3)
    seen = Sighting(Detection("cup", category, box, 0.8), looks)
    track = Track(0, start_s, seen)
    track.add(end_s - 0.2, seen)
    view = View(start_s, box, np.zeros((4, 4, 3), np.uint8), 0.5)
    products = []
    if product:
        products = [product_matcher_pb2.ProductMatch(product=product_catalog_pb2.Product(name=product))]
    outcome = MatchOutcome(
        products,
        Decision.MATCH if product else Decision.NO_MATCH,
        [product_matcher_pb2.Embedding(values=looks.tolist())],
    )
    return EndedTrack(track, Segment(start_s, end_s), [view]), outcome


def identities() -> Identities:
    return Identities(reentry_window_s=5.0)


def test_a_thing_that_comes_back_becomes_another_segment_of_the_same_object():
    known = identities()
    first = known.add(*matched(0, 2))
    assert known.add(*matched(4, 6)) is first
    assert [item.segment for item in first.tracks] == [Segment(0, 2), Segment(4, 6)]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (matched(4, 6, looks=B), "looks otherwise"),
        (matched(1, 3), "was there at the same time"),
        (matched(8, 9), "came after the window"),
        (matched(4, 6, category="bottles"), "is of another category"),
    ],
)
def test_another_thing_is_another_object(other, why):
    known = identities()
    assert known.add(*matched(0, 2)) is not known.add(*other), why


def test_products_decide_if_both_are_sure():
    known = identities()
    first = known.add(*matched(0, 2, product="mug"))
    assert known.add(*matched(3, 4, product="mug", looks=MIXED)) is first
    assert known.add(*matched(5, 6, product="cup")) is not first


@pytest.mark.parametrize("product", ["bottle", None])
def test_of_several_things_that_look_alike_the_one_that_stood_there_comes_back(product):
    known = identities()
    left = known.add(*matched(0, 2, left=0.1, product=product))
    right = known.add(*matched(0, 2, left=0.6, product=product))
    assert known.add(*matched(4, 6, left=0.62, product=product)) is right
    assert known.add(*matched(4, 6, left=0.12, product=product)) is left


def test_without_embeddings_colours_decide():
    known = identities()
    first, second = matched(0, 2), matched(3, 4)
    assert known.add(first[0], None) is known.add(second[0], None)


def test_an_object_is_closed_once_it_cannot_come_back():
    known = identities()
    gone = known.add(*matched(0, 2))
    assert known.close(6.9, lambda _: []) == []
    assert known.close(7.1, lambda _: []) == [gone]
    assert known.close_all() == []


def test_an_object_stays_open_while_a_track_of_its_category_may_be_it():
    known = identities()
    gone = known.add(*matched(0, 2))
    assert known.close(60, lambda category: [4.0] if category == "drinkware" else []) == []
    assert known.close(60, lambda category: [] if category == "drinkware" else [4.0]) == [gone]


def test_an_object_does_not_stay_open_for_a_thing_that_was_there_beside_it():
    known = identities()
    gone = known.add(*matched(4, 6))
    stays_since = 1.0
    assert known.close(60, lambda _: [stays_since]) == [gone]


def test_a_thing_that_comes_back_for_ever_becomes_another_object_after_so_many_times():
    known = identities()
    ids = [known.add(*matched(4 * number, 4 * number + 2)).object_id for number in range(130)]
    assert [ids.count(name) for name in dict.fromkeys(ids)] == [64, 64, 2]


def test_of_very_many_objects_those_that_were_seen_longest_ago_are_closed():
    known = identities()
    added = [known.add(*matched(number / 200, 100 + number / 200)) for number in range(510)]
    assert known.close(103, lambda _: []) == added[:10]


def test_no_pictures_but_the_best_view_are_kept_of_what_ended():
    known = identities()
    found = [known.add(*matched(4 * number, 4 * number + 2)) for number in range(20)][-1]
    assert len(found.tracks) == 20
    assert not any(isinstance(value, View) for item in found.tracks for value in vars(item).values())
