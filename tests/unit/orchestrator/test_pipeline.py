"""The pipeline over small fakes at its ports: what is told, in which order, and what happens when a stage fails."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from shoppable.orchestrator.domain import (
    Box,
    Decision,
    DecodeSummary,
    DetectedFrame,
    Detection,
    FoundObject,
    Frame,
    MatchOptions,
    MatchOutcome,
    Options,
    Progress,
    Segment,
    Summary,
    View,
)
from shoppable.orchestrator.pipeline import Annotation, Stages
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import DataLossError, NotFoundError, ServiceError, UnavailableError, to_status
from shoppable.runtime.images import raw_image
from shoppable.v1 import common_pb2, product_catalog_pb2, product_matcher_pb2

PICTURE = raw_image(np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8))
AWAY = to_status(UnavailableError("away", reason="AWAY"))
MUG = Detection("cup", "drinkware", Box(0.2, 0.2, 0.4, 0.5), 0.9)
LAPTOP = Detection("laptop", "computers", Box(0.5, 0.5, 0.9, 0.9), 0.8)


class Frames:
    """Five frames a second; frame number n shows `script[n]`."""

    def __init__(self, count: int, *, error: ServiceError | None = None) -> None:
        self.count, self.error = count, error
        self.sent = 0
        self.closed = False

    async def decode(self, source, chunks, options):
        try:
            video = common_pb2.VideoInfo(codec="h264")
            video.duration.FromMilliseconds(self.count * 200)
            yield video
            for index in range(self.count):
                self.sent += 1
                yield Frame(index, index * 0.2, PICTURE, scene_cut=False)
            if self.error:
                raise self.error
            yield DecodeSummary(damaged_packets=1, truncated=False, end_s=self.count * 0.2)
        finally:
            self.closed = True


class Detector:
    def __init__(self, script, *, failing: Sequence[int] = ()) -> None:
        self.script, self.failing = script, failing

    async def detect(self, frames, options):
        yield (common_pb2.ModelVersion(name="detector", version="1"),)
        async for frame in frames:
            if frame.index in self.failing:
                yield DetectedFrame(frame, (), AWAY)
            else:
                yield DetectedFrame(frame, self.script(frame.index))


class Matcher:
    def __init__(self, *, failing: Sequence[str] = (), error: ServiceError | None = None) -> None:
        self.failing, self.error = failing, error
        self.asked: list[tuple[str, type]] = []
        self.in_work = self.most_in_work = 0

    async def check(self, options):
        if self.error:
            raise self.error

    async def match(self, looks, category, options):
        self.asked.append((category, type(looks[0])))
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        await asyncio.sleep(0)
        self.in_work -= 1
        if category in self.failing:
            return MatchOutcome(failure=AWAY)
        product = product_catalog_pb2.Product(name=f"catalogs/c/products/{category}")
        return MatchOutcome(
            [product_matcher_pb2.ProductMatch(product=product, confidence=0.9)],
            Decision.MATCH,
            [product_matcher_pb2.Embedding(values=[1.0, 0.0])] * len(looks),
            catalog_revision=7,
            embedder=common_pb2.ModelVersion(name="embedder", version="1"),
        )


OPTIONS = Options(common_pb2.FrameSampling(frames_per_second=5), matching=MatchOptions("catalogs/c"))


def annotation(frames, detector, matcher=None, options=OPTIONS, **settings):
    stages = Stages(frames, detector, matcher or Matcher())
    usual = {"reentry_window_s": 2.0, "min_observations": 2}
    return Annotation(stages, OrchestratorSettings(**(usual | settings)), options)


async def nothing():
    return
    yield b""


async def told(work: Annotation):
    return [event async for event in work.run(common_pb2.VideoSource(uri="file:///x"), nothing())]


def objects(events) -> list[FoundObject]:
    return [event for event in events if isinstance(event, FoundObject)]


async def test_progress_is_told_while_the_last_objects_wait_for_the_matcher():
    told_enough, told = asyncio.Event(), []

    class Slow(Matcher):
        async def match(self, looks, category, options):
            await told_enough.wait()
            return await super().match(looks, category, options)

    work = annotation(Frames(20), Detector(lambda _: [MUG]), Slow())
    async for event in work.run(common_pb2.VideoSource(uri="file:///x"), nothing()):
        if isinstance(event, Progress):
            told.append((event.frames_detected, event.segments_matched))
        if len(told) == 2:
            told_enough.set()
    assert told == [(20, 0), (20, 0), (20, 1)]


class Held(Matcher):
    """Matches pictures of some categories only when it is let."""

    def __init__(self, *categories: str) -> None:
        super().__init__()
        self.categories, self.let = categories, asyncio.Event()

    async def match(self, looks, category, options):
        if category in self.categories and isinstance(looks[0], View):
            await self.let.wait()
        return await super().match(looks, category, options)


async def test_an_object_of_two_tracks_does_not_wait_for_the_pictures_of_others():
    there = lambda index: [MUG] * (index < 5 or 8 <= index < 13) + [LAPTOP] * (index < 17)
    matcher, told = Held("computers"), []
    work = annotation(Frames(60), Detector(there), matcher, matches_in_flight=1, max_gap_s=0.5)
    async with asyncio.timeout(20):
        async for event in work.run(common_pb2.VideoSource(uri="file:///x"), nothing()):
            if isinstance(event, FoundObject):
                told.append((event.label, len(event.segments)))
                matcher.let.set()
    assert told == [("cup", 2), ("laptop", 1)]


async def test_a_reader_that_stops_at_progress_stops_the_work_also_where_nothing_is_found():
    class Slow(Detector):
        async def detect(self, frames, options):
            async for item in super().detect(frames, options):
                await asyncio.sleep(0.01)
                yield item

    frames = Frames(10_000)
    events = annotation(frames, Slow(lambda _: [])).run(common_pb2.VideoSource(uri="file:///x"), nothing())
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Progress):
                break
        sent = frames.sent
        await asyncio.sleep(0.3)
        assert sent <= frames.sent <= sent + 2


async def test_the_last_object_that_is_wanted_is_told_though_progress_is_read_slowly():
    matcher, told = Held("drinkware"), []
    options = dataclasses.replace(OPTIONS, max_objects=1)
    async for event in annotation(Frames(20), Detector(lambda _: [MUG]), matcher, options).run(
        common_pb2.VideoSource(uri="file:///x"), nothing()
    ):
        told.append(event)
        if isinstance(event, Progress):
            matcher.let.set()
            await asyncio.sleep(0.2)  # the object becomes final meanwhile
    assert [item.label for item in objects(told)] == ["cup"]
    assert told[-1].objects == 1


async def test_a_live_stream_is_looked_at_while_all_things_of_a_scene_wait_for_the_matcher():
    mugs = [Detection("cup", "drinkware", Box(0.04 * n, 0.2, 0.04 * n + 0.03, 0.3), 0.9) for n in range(20)]
    matcher = Held("drinkware")

    def script(index):
        if index == 59:
            matcher.let.set()
        return mugs if index < 5 else []

    options = dataclasses.replace(OPTIONS, max_lag_s=100.0)
    async with asyncio.timeout(20):
        events = await told(annotation(Frames(60), Detector(script), matcher, options, max_gap_s=0.5))
    assert len(objects(events)) == 20
    assert events[-1].frames_dropped == 0


async def test_the_video_comes_first_each_object_once_and_the_summary_last():
    events = await told(annotation(Frames(20), Detector(lambda index: [MUG, LAPTOP] if index < 10 else [LAPTOP])))
    assert isinstance(events[0], common_pb2.VideoInfo)
    assert isinstance(events[-1], Summary)
    assert isinstance(events[-2], Progress)
    assert events[-2].fraction == 1.0
    found = objects(events)
    assert [item.label for item in found] == ["cup", "laptop"]  # the cup is gone for longer than the window
    assert all(item.final for item in found)
    assert found[0].segments == [Segment(0.0, pytest.approx(2.0))]
    assert found[0].match.products[0].product.name.endswith("drinkware")
    summary = events[-1]
    assert (summary.frames_sampled, summary.objects, summary.objects_unmatched) == (20, 2, 0)
    assert (summary.catalog_revision, summary.embedder.name) == (7, "embedder")
    assert summary.decoding.damaged_packets == 1


async def test_a_thing_that_comes_back_is_one_object_matched_by_all_its_views():
    matcher = Matcher()
    script = lambda index: [MUG] if index < 5 or index >= 12 else []
    (found,) = objects(await told(annotation(Frames(20), Detector(script), matcher)))
    spans = [(round(segment.start_s, 3), round(segment.end_s, 3)) for segment in found.segments]
    assert spans == [(0.0, 1.0), (2.4, 4.0)]
    assert [kind for _, kind in matcher.asked] == [View, View, product_matcher_pb2.Embedding]


async def test_frames_that_fail_are_counted_and_the_rest_is_returned():
    events = await told(annotation(Frames(20), Detector(lambda _: [MUG], failing=[3, 4])))
    assert len(objects(events)) == 1
    assert events[-1].frames_failed == 2
    assert [status.message for status in events[-1].failures] == ["away"]


async def test_a_video_of_which_no_frame_could_be_looked_at_is_no_empty_list():
    with pytest.raises(UnavailableError, match="away"):
        await told(annotation(Frames(5), Detector(lambda _: [MUG], failing=range(5))))


async def test_an_object_whose_matching_fails_is_returned_with_the_reason():
    events = await told(annotation(Frames(8), Detector(lambda _: [MUG, LAPTOP]), Matcher(failing=["computers"])))
    by_label = {item.label: item for item in objects(events)}
    assert by_label["laptop"].match.failure == AWAY
    assert by_label["cup"].match.decision is Decision.MATCH
    assert events[-1].objects_unmatched == 1
    assert AWAY in events[-1].failures


async def test_a_catalogue_that_is_missing_is_told_before_any_work():
    frames = Frames(5)
    work = annotation(frames, Detector(lambda _: []), Matcher(error=NotFoundError("catalog", "c", "no such")))
    with pytest.raises(NotFoundError):
        await told(work)
    assert frames.sent == 0


async def test_a_video_that_breaks_off_yields_what_was_found_and_then_the_error():
    work = annotation(Frames(8, error=DataLossError("broke off", reason="BROKEN_VIDEO")), Detector(lambda _: [MUG]))
    seen = []
    with pytest.raises(DataLossError):
        async for event in work.run(common_pb2.VideoSource(), nothing()):
            seen.append(event)
    assert len(objects(seen)) == 1


async def test_enough_objects_end_the_work_early():
    frames = Frames(1000)
    options = Options(common_pb2.FrameSampling(), matching=None, max_objects=1)
    events = await told(annotation(frames, Detector(lambda index: [MUG] if index < 4 else []), options=options))
    assert len(objects(events)) == 1
    assert isinstance(events[-1], Summary)
    assert frames.sent < 50
    assert frames.closed


async def test_without_a_catalogue_objects_are_found_and_nothing_is_asked():
    matcher = Matcher()
    options = Options(common_pb2.FrameSampling())
    (found,) = objects(await told(annotation(Frames(6), Detector(lambda _: [MUG]), matcher, options)))
    assert found.match is None
    assert matcher.asked == []


async def test_provisional_objects_come_when_they_are_confirmed_when_they_leave_and_when_they_are_final():
    options = Options(common_pb2.FrameSampling(), matching=OPTIONS.matching, provisional=True)
    events = await told(annotation(Frames(30), Detector(lambda index: [MUG] if index < 4 else []), options=options))
    sent = [(item.object_id, item.final) for item in objects(events)]
    assert sent == [("object-1", False), ("object-1", False), ("object-1", True)]


SURE = dataclasses.replace(OPTIONS, min_object_confidence=0.95)


async def test_objects_less_sure_than_asked_for_are_left_out_and_counted():
    script = lambda index: [MUG, LAPTOP] if index < 4 else []
    events = await told(annotation(Frames(30), Detector(script), Matcher(failing=["computers"]), SURE))
    assert objects(events) == []  # one is matched with 0.9, the other could not be
    assert (events[-1].objects, events[-1].objects_left_out) == (0, 2)
    less = dataclasses.replace(SURE, min_object_confidence=0.85)
    events = await told(annotation(Frames(30), Detector(script), Matcher(failing=["computers"]), less))
    assert [item.label for item in objects(events)] == ["cup"]
    assert (events[-1].objects, events[-1].objects_left_out) == (1, 1)


async def test_what_is_left_out_does_not_count_towards_the_most_objects_wanted():
    options = dataclasses.replace(SURE, min_object_confidence=0.85, max_objects=1)
    script = lambda index: [LAPTOP] if index < 4 else [MUG] if 30 < index < 34 else []
    events = await told(annotation(Frames(200), Detector(script), Matcher(failing=["computers"]), options))
    assert [item.label for item in objects(events)] == ["cup"]


async def test_an_object_told_as_provisional_is_told_as_final_even_if_it_became_unsure():
    class Doubting(Matcher):
        async def match(self, looks, category, options):
            outcome = await super().match(looks, category, options)
            joint = not isinstance(looks[0], View)
            if joint:
                outcome.products[0].confidence = 0.5
            return outcome

    options = dataclasses.replace(SURE, min_object_confidence=0.8, provisional=True)
    script = lambda index: [MUG] if index < 5 or 12 <= index < 16 else []
    events = await told(annotation(Frames(40), Detector(script), Doubting(), options))
    *early, last = [(item.final, round(item.match.confidence, 1)) for item in objects(events)]
    assert set(early) == {(False, 0.9)}
    assert last == (True, 0.5)


async def test_boxes_are_thinned_as_asked_for():
    script = lambda _: [MUG]
    for tolerance, count in ((0.01, 2), (0.0, 20)):
        options = dataclasses.replace(OPTIONS, box_tolerance=tolerance)
        (found,) = objects(await told(annotation(Frames(20), Detector(script), options=options)))
        assert len(found.observations) == count
        assert found.detection_score == pytest.approx(MUG.score)


async def test_who_stops_reading_stops_the_decoder():
    frames = Frames(1000)
    work = annotation(frames, Detector(lambda _: [MUG]))
    async with contextlib.aclosing(work.run(common_pb2.VideoSource(), nothing())) as events:
        await anext(events)
    assert frames.closed
    assert frames.sent < 10


async def test_matches_in_work_are_bounded():
    matcher = Matcher()
    boxes = [
        Box(0.1 * column, 0.2 * row, 0.1 * column + 0.08, 0.2 * row + 0.15) for column in range(9) for row in range(4)
    ]
    crowd = [Detection("cup", "drinkware", box, 0.9) for box in boxes]
    events = await told(annotation(Frames(4), Detector(lambda _: crowd), matcher, matches_in_flight=2))
    assert len(objects(events)) == len(crowd)
    assert matcher.most_in_work <= 2


async def test_a_flicker_of_the_detector_is_no_object():
    events = await told(annotation(Frames(20), Detector(lambda index: [MUG] if index == 5 else []), min_observations=3))
    assert objects(events) == []


async def test_the_pot_of_a_plant_is_no_vase():
    plant = Detection("potted plant", "vases-and-plants", Box(0.2, 0.1, 0.5, 0.9), 0.8)
    pot = Detection("vase", "vases-and-plants", Box(0.3, 0.6, 0.45, 0.9), 0.5)
    found = objects(await told(annotation(Frames(5), Detector(lambda _: [pot, plant]))))
    assert [item.label for item in found] == ["potted plant"]
