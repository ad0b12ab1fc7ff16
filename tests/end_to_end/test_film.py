"""The main job: the sample film in, its products out, right or said to be unsure."""

import asyncio
import itertools
from pathlib import Path

import pytest

from shoppable.client import OrchestratorClient, box_at, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2, product_matcher_pb2
from support.catalogs import CATALOG
from support.film_truth import iou, object_of, overlap_in_time, read_truth, score, seconds

# Reached: 10 first and 8 named, of which the sofa by a hair. See samples/README.md for what plain cosine reaches.
MIN_RANKED_FIRST = 10
MIN_NAMED = 7


def options(**fields) -> orchestrator_pb2.AnnotateOptions:
    return orchestrator_pb2.AnnotateOptions(**({"catalog": CATALOG} | fields))


async def stream(suite, source, wanted) -> list[orchestrator_pb2.StreamAnnotateVideoResponse]:
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        return [message async for message in OrchestratorClient(channel).stream_annotate(source, wanted, timeout_s=100)]


def objects(messages) -> list[orchestrator_pb2.ShoppableObject]:
    return [message.object for message in messages if message.WhichOneof("response") == "object"]


@pytest.fixture(scope="module")
def told(suite, samples: Path) -> list[orchestrator_pb2.StreamAnnotateVideoResponse]:
    """All that the suite says of the uploaded film."""
    return asyncio.run(stream(suite, samples / "film.mp4", options()))


@pytest.fixture(scope="module")
def truth(samples: Path):
    return read_truth(samples)


def test_each_product_is_one_object_in_the_right_place(told, truth):
    found = objects(told)
    pairs = {product.product_id: object_of(product, found) for product in truth}
    assert None not in pairs.values()
    assert len({item.object_id for item in pairs.values()}) == len(truth)


def test_each_object_is_there_when_its_product_is(told, truth):
    found = objects(told)
    overlaps = {product.product_id: overlap_in_time(product, object_of(product, found)) for product in truth}
    assert min(overlaps.values()) >= 0.6, overlaps
    assert sum(overlaps.values()) / len(overlaps) >= 0.85, overlaps


def test_what_leaves_and_comes_back_is_one_object_with_two_segments(told, truth):
    found = objects(told)
    for product in truth:
        if product.product_id in {"mug-teal", "bottle-green-cider"}:
            assert len(object_of(product, found).segments) == 2


def test_no_segment_crosses_the_cut(told):
    for item in objects(told):
        for segment in item.segments:
            assert not seconds(segment.start) < 6.99 < 7.01 < seconds(segment.end)


def test_what_is_called_a_match_is_right_and_most_products_are(told, truth):
    reached = score(truth, objects(told))
    assert reached.wrong_claims == []
    assert reached.ranked_first >= MIN_RANKED_FIRST, reached
    assert reached.named >= MIN_NAMED, reached


def test_an_object_says_all_that_the_contract_promises(told):
    for item in objects(told):
        assert item.final
        assert item.label
        assert item.category
        assert 0 < item.detection_score <= 1
        times = [seconds(box.time) for box in item.boxes]
        assert times == sorted(times)
        for box in item.boxes:
            assert 0 <= box.box.left < box.box.right <= 1
            assert 0 <= box.box.top < box.box.bottom <= 1
        ends = [(seconds(segment.start), seconds(segment.end)) for segment in item.segments]
        assert all(start < end for start, end in ends)
        assert ends == sorted(ends)
        assert any(start <= seconds(item.best_view.time) < end for start, end in ends)
        assert item.best_view.thumbnail.data.startswith(b"\xff\xd8")
        confidences = [product.confidence for product in item.products]
        assert item.confidence == confidences[0]
        assert all(0 <= value <= 1 for value in confidences)
        first = item.products[0]
        assert first.product.title
        assert first.product.price.currency_code == "EUR"
        assert first.evidence.image_id
        assert first.evidence.HasField("margin")


def test_the_stream_tells_the_video_first_then_progress_and_the_summary_last(told):
    kinds = [message.WhichOneof("response") for message in told]
    assert kinds[0] == "video"
    assert kinds[-1] == "summary"
    progress = [message.progress for message in told if message.WhichOneof("response") == "progress"]
    fractions = [item.fraction for item in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    summary = told[-1].summary
    assert (summary.video.width, summary.video.height, summary.video.codec) == (640, 360, "h264")
    assert summary.frames_sampled == 70
    assert summary.objects == len(objects(told))
    assert (summary.frames_failed, summary.objects_unmatched, summary.damaged_packets) == (0, 0, 0)
    assert {model.name for model in summary.detection_models} == {"detector_coco", "detector_wearables"}
    assert summary.embedder.name == "embedder"
    assert summary.catalog_revision > 0
    assert {stage.stage for stage in summary.stages} == {"decode", "detect", "match"}


async def test_a_uri_and_the_unary_call_give_the_same_objects_as_the_upload(suite, samples: Path, told):
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
        answer = await OrchestratorClient(channel).annotate(source, options(), timeout_s=100)

    def essence(items):
        return sorted(
            (item.label, seconds(item.segments[0].start), len(item.boxes), item.products[0].product.name)
            for item in items
        )

    assert essence(answer.objects) == essence(objects(told))
    starts = [seconds(item.segments[0].start) for item in answer.objects]
    assert starts == sorted(starts)


async def test_a_span_a_category_and_a_filter_narrow_the_answer(suite, samples: Path):
    wanted = options(categories=["toys", "clocks"])
    wanted.start_time.FromSeconds(8)
    wanted.end_time.FromSeconds(11)
    wanted.product_filter.attributes.add(key="color", values=["grey"])
    (bear,) = objects(await stream(suite, samples / "film.mp4", wanted))
    assert bear.label == "teddy bear"
    assert seconds(bear.segments[0].start) >= 8
    assert seconds(bear.segments[-1].end) <= 11.2
    assert {product.product.attributes["color"] for product in bear.products} == {"grey"}


async def test_the_surest_objects_are_chosen_if_few_are_wanted(suite, samples: Path, told):
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
        answer = await OrchestratorClient(channel).annotate(source, options(max_objects=3), timeout_s=100)
    best = sorted((item.confidence for item in objects(told)), reverse=True)[:3]
    assert sorted((item.confidence for item in answer.objects), reverse=True) == pytest.approx(best, abs=0.02)
    assert answer.summary.objects == 3


async def test_boxes_of_an_object_lie_on_the_truth_at_their_own_times(told, truth):
    by_id = {product.product_id: product for product in truth}
    chair = object_of(by_id["chair-oak-mustard"], objects(told))
    for box in chair.boxes:
        near = min(by_id["chair-oak-mustard"].boxes, key=lambda time_s: abs(time_s - seconds(box.time)))
        assert iou(box.box, by_id["chair-oak-mustard"].boxes[near]) >= 0.5


async def test_thinned_boxes_lead_a_player_along_the_boxes_of_every_moment(suite, samples: Path, told):
    every = objects(await stream(suite, samples / "film.mp4", options(box_tolerance=0)))
    thinned = {item.object_id: item for item in objects(told)}
    assert sum(len(item.boxes) for item in thinned.values()) < 0.6 * sum(len(item.boxes) for item in every)
    for item in every:
        for seen in item.boxes:
            drawn = box_at(thinned[item.object_id], seconds(seen.time))
            for edge in ("left", "top", "right", "bottom"):
                assert getattr(drawn, edge) == pytest.approx(getattr(seen.box, edge), abs=0.01 + 1e-4)


async def test_only_objects_as_sure_as_asked_for_are_returned_and_the_others_counted(suite, samples: Path, told, truth):
    floor = 0.8
    messages = await stream(suite, samples / "film.mp4", options(min_object_confidence=floor))
    sure = objects(messages)
    assert 0 < len(sure) < len(objects(told))
    assert all(item.confidence >= floor for item in sure)
    assert messages[-1].summary.objects == len(sure)
    assert messages[-1].summary.objects + messages[-1].summary.objects_left_out == len(objects(told))
    assert score(truth, sure).wrong_claims == []


def test_the_summary_lists_each_product_once_with_its_objects_and_their_segments(told):
    matched = [item for item in objects(told) if item.decision == product_matcher_pb2.MATCH_DECISION_MATCH]
    listed = told[-1].summary.found_products
    assert len({item.product for item in listed}) == len(listed) > 0
    assert sorted(name for item in listed for name in item.object_ids) == sorted(item.object_id for item in matched)
    by_id = {item.object_id: item for item in matched}
    for item in listed:
        assert {by_id[name].products[0].product.name for name in item.object_ids} == {item.product}
        assert item.title
        assert item.confidence == max(by_id[name].confidence for name in item.object_ids)
        ends = [(seconds(segment.start), seconds(segment.end)) for segment in item.segments]
        assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))
