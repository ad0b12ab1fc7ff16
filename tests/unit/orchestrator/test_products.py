from shoppable.orchestrator.products import FoundProducts
from shoppable.v1 import orchestrator_pb2, product_matcher_pb2

MATCH = product_matcher_pb2.MATCH_DECISION_MATCH


def thing(object_id, product, *spans, confidence=0.9, decision=MATCH):
    item = orchestrator_pb2.ShoppableObject(object_id=object_id, decision=decision, confidence=confidence)
    item.products.add(confidence=confidence).product.name = product
    for start_s, end_s in spans:
        segment = item.segments.add()
        segment.start.FromSeconds(start_s)
        segment.end.FromSeconds(end_s)
    return item


def listed(*things):
    products = FoundProducts()
    for item in things:
        products.add(item)
    return [
        (found.product, list(found.object_ids), [(part.start.seconds, part.end.seconds) for part in found.segments])
        for found in products.listed()
    ]


def test_a_product_is_listed_once_with_all_its_objects_and_the_union_of_their_segments():
    # Two bottles of a kind side by side, and one that came back when the first were final.
    assert listed(thing("a", "cider", (3, 6)), thing("b", "cider", (4, 8), (8, 9)), thing("c", "cider", (60, 61))) == [
        ("cider", ["a", "b", "c"], [(3, 9), (60, 61)])
    ]


def test_products_are_in_order_of_appearance_with_the_confidence_of_their_surest_object():
    products = FoundProducts()
    for item in (thing("a", "late", (5, 6)), thing("b", "early", (1, 2), confidence=0.8), thing("c", "early", (3, 4))):
        products.add(item)
    assert [(found.product, round(found.confidence, 3)) for found in products.listed()] == [
        ("early", 0.9),
        ("late", 0.9),
    ]


def test_what_is_only_similar_or_nothing_is_no_product_of_the_video():
    similar = product_matcher_pb2.MATCH_DECISION_SIMILAR
    nothing = orchestrator_pb2.ShoppableObject(object_id="n", decision=MATCH)
    assert listed(thing("a", "cider", (0, 1), decision=similar), nothing) == []


def test_what_one_product_holds_is_bounded():
    ((_, ids, spans),) = listed(*(thing(str(n), "cider", (3 * n, 3 * n + 1)) for n in range(1200)))
    assert len(ids) == len(spans) == 1000


def test_what_all_products_hold_is_bounded():
    found = listed(*(thing(str(n), f"product {n % 300}", (3 * n, 3 * n + 1)) for n in range(60_000)))
    assert sum(len(ids) + len(spans) for _, ids, spans in found) == 100_000
