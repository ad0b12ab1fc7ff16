"""Objects that are told while they are in the picture, and streams that do not end, over real sockets."""

import contextlib
import gc
import logging
import tracemalloc

import grpc
import pytest

from shoppable.client import ShoppableError
from shoppable.v1 import orchestrator_pb2
from support.film_truth import seconds
from support.orchestrating import (
    ANY_FILM,
    CATALOG,
    ScriptedDecoder,
    ScriptedDetector,
    ScriptedMatcher,
    objects,
    orchestrating,
    seen,
    summary_of,
    told,
)

Options = orchestrator_pb2.AnnotateOptions
RATE = 5
ENDLESS = 100_000


async def test_an_object_is_told_as_soon_as_it_is_confirmed_while_the_film_plays():
    # One frame at a time through the detector: what is told is told by the latest answered frame.
    detector = ScriptedDetector(lambda number: [seen("cup")] if number >= 10 else [], delay_s=0.02)
    async with orchestrating(
        decoder=ScriptedDecoder(60), detector=detector, min_observations=3, frames_in_flight=2
    ) as client:
        options = Options(catalog=CATALOG, include_provisional_objects=True, omit_thumbnails=True)
        async with contextlib.aclosing(client.stream_annotate(ANY_FILM.uri, options, timeout_s=30)) as messages:
            async for message in messages:
                if message.WhichOneof("response") == "object":
                    found, answered = message.object, detector.answered
                    break
    # The third sighting is frame 12, the thirteenth answer; two more frames are in flight.
    assert 13 <= answered <= 13 + RATE
    assert not found.final
    assert found.products[0].product.name == f"{CATALOG}/products/drinkware"
    assert seconds(found.segments[0].end) <= 13 / RATE + 0.01


async def test_an_object_is_told_again_only_when_it_is_known_better():
    # It comes nearer: clearly better views.
    detector = ScriptedDetector(lambda number: [seen("cup", size=0.1 + 0.02 * min(number, 10))], delay_s=0.005)
    async with orchestrating(decoder=ScriptedDecoder(40), detector=detector) as client:
        messages = await told(client, include_provisional_objects=True)
    found = objects(messages)
    assert {item.object_id for item in found} == {"object-1"}
    assert [item.final for item in found] == [False] * (len(found) - 1) + [True]
    # Confirmed, better a few times in two seconds of growth, left; not with each of forty frames.
    assert 3 <= len(found) <= 6


async def test_what_comes_back_takes_the_place_of_what_was_told_under_another_id():
    there = lambda number: [seen("cup")] if number < 6 or 14 <= number < 20 else []
    async with orchestrating(
        decoder=ScriptedDecoder(40), detector=ScriptedDetector(there, delay_s=0.005), max_gap_s=0.5
    ) as client:
        found = objects(await told(client, include_provisional_objects=True))
    final = [item for item in found if item.final]
    assert [len(item.segments) for item in final] == [2]
    void = {item.object_id for item in found} - {final[0].object_id}
    assert void
    assert void <= set(final[0].supersedes)


async def test_provisional_ids_do_not_depend_on_how_fast_things_go():
    scene = lambda number: [seen("cup", 0.1), *([seen("laptop", 0.6)] if number % 20 < 10 else [])]
    ids = []
    for delay_s in (0.0, 0.01):
        async with orchestrating(
            decoder=ScriptedDecoder(40), detector=ScriptedDetector(scene, delay_s=delay_s),
            matcher=ScriptedMatcher(delay_s=delay_s), max_gap_s=0.5,
        ) as client:  # fmt: skip
            messages = await told(client, include_provisional_objects=True)
        ids.append([(item.object_id, item.label, len(item.segments)) for item in objects(messages) if item.final])
    assert ids[0] == ids[1]


async def test_progress_counts_the_frames_of_each_stage_and_the_share_of_the_film():
    async with orchestrating(
        decoder=ScriptedDecoder(60), detector=ScriptedDetector(lambda _: [seen("cup")], delay_s=0.03)
    ) as client:
        messages = await told(client)
    progress = [message.progress for message in messages if message.WhichOneof("response") == "progress"]
    assert len(progress) >= 3
    for item in progress[:-1]:
        assert item.frames_sampled >= item.frames_detected > 0
        assert item.fraction == pytest.approx(seconds(item.time) / 12, abs=0.001)
    assert (progress[-1].fraction, progress[-1].segments_matched) == (1.0, 1)


async def test_a_live_stream_drops_its_oldest_frames_and_says_how_many():
    # The detector takes about three times as long for a frame as the camera.
    decoder, detector = ScriptedDecoder(500, delay_s=0.004), ScriptedDetector(lambda _: [seen("cup")], delay_s=0.016)
    async with orchestrating(decoder=decoder, detector=detector, frames_in_flight=2, max_gap_s=3) as client:
        options = Options(catalog=CATALOG, omit_thumbnails=True, live={"max_lag": {"seconds": 1}})
        messages, lags = [], []
        async for message in client.stream_annotate(ANY_FILM.uri, options, timeout_s=60):
            messages.append(message)
            if message.WhichOneof("response") == "progress" and message.progress.fraction < 1:
                lags.append(decoder.sent / RATE - seconds(message.progress.time))
    summary = summary_of(messages)
    assert summary.frames_sampled == 500
    assert summary.frames_dropped > 100
    assert summary.frames_dropped + detector.answered == 500
    assert summary.frames_failed == 0
    progress = [message.progress for message in messages if message.WhichOneof("response") == "progress"]
    assert progress[-1].frames_dropped == summary.frames_dropped
    # A second of waiting, two frames at the detector, and what gRPC holds of the decoder's: not the film's 100 s.
    assert max(lags) < 20
    (cup,) = objects(messages)
    assert len(cup.segments) == 1


async def test_what_came_and_went_is_final_though_another_of_its_kind_never_leaves():
    # A bottle that stays on the table, and another that is there in five frames of every forty.
    scene = lambda number: [seen("bottle", 0.1), *([seen("bottle", 0.6)] if number % 40 < 5 else [])]
    settings = {"max_gap_s": 0.5, "reentry_window_s": 1.0}
    decoder, finals = ScriptedDecoder(ENDLESS), 0
    async with orchestrating(decoder=decoder, detector=ScriptedDetector(scene), **settings) as client:
        options = Options(catalog=CATALOG, omit_thumbnails=True, live={})
        async with contextlib.aclosing(client.stream_annotate(ANY_FILM.uri, options, timeout_s=30)) as messages:
            async for message in messages:
                if message.WhichOneof("response") == "object":
                    assert message.object.boxes[0].box.left > 0.5
                    finals += 1
                if finals == 3:
                    break


async def test_a_live_stream_that_is_kept_up_with_drops_nothing():
    async with orchestrating(
        decoder=ScriptedDecoder(100, delay_s=0.004), detector=ScriptedDetector(lambda _: [seen("cup")])
    ) as client:
        summary = summary_of(await told(client, live={}))
    assert (summary.frames_sampled, summary.frames_dropped) == (100, 0)


async def test_a_bad_lag_is_refused():
    async with orchestrating(decoder=ScriptedDecoder(1), detector=ScriptedDetector(lambda _: [])) as client:
        for lag in ({"seconds": 61}, {"nanos": 1000}, {"seconds": -1}):
            with pytest.raises(ShoppableError) as caught:
                await told(client, live={"max_lag": lag})
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [item.field for item in caught.value.violations] == ["options.live.max_lag"]


@pytest.mark.parametrize(("hours", "kind"), [(3, {"live": {}}), (0.25, {})], ids=["live", "film"])
async def test_a_long_stream_takes_no_more_memory_than_a_short_one(hours, kind, caplog):
    """As fast as they go: a laptop that never leaves, a cup in each fifty seconds, a bottle that comes and goes.

    Live frames that come this fast are dropped, so a cup is there for most of its fifty seconds. The bottle is never
    away for long enough to be another one.
    """
    scene = lambda number: [
        seen("laptop", 0.6),
        *([seen("cup", 0.1)] if number % 50 < 40 else []),
        *([seen("bottle", 0.3)] if number % 16 < 8 else []),
    ]
    caplog.set_level(logging.ERROR)  # pytest keeps each record
    decoder = ScriptedDecoder(int(hours * 3600), rate=1.0)
    used: list[int] = []
    finals = 0
    async with orchestrating(
        decoder=decoder, detector=ScriptedDetector(scene), max_gap_s=2, reentry_window_s=5, frames_in_flight=8
    ) as client:
        options = Options(catalog=CATALOG, omit_thumbnails=True, include_provisional_objects=True, **kind)
        tracemalloc.start()
        try:
            async for message in client.stream_annotate(ANY_FILM.uri, options, timeout_s=110):
                finals += message.WhichOneof("response") == "object" and message.object.final
                if message.WhichOneof("response") == "progress":
                    gc.collect()
                    used.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert finals > 20
    assert len(used) >= 8
    half = len(used) // 2
    early, late = sorted(used[2:half])[(half - 2) // 2], sorted(used[half:])[(len(used) - half) // 2]
    # What may grow is the laptop's own list of sightings, which is bounded: 4096 of some 250 bytes.
    assert late - early < 2**20, used
