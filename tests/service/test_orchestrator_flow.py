"""Flow through all stages, over real sockets: what is slow slows the rest, and what is left ends everywhere."""

import asyncio
import contextlib
from collections import Counter

import grpc
import numpy as np
import pytest

from shoppable.client import OrchestratorClient, ShoppableError
from shoppable.matcher.server import build as build_matcher
from shoppable.runtime import metrics
from shoppable.runtime.images import raw_image
from shoppable.runtime.server import serving
from shoppable.v1 import orchestrator_pb2
from support.catalogs import MatcherClient, settings_of, upsert_of
from support.decoder_calls import running_decoder
from support.detecting import COCO, detector, packaged_models
from support.fake_triton import FakeModel, FakeTriton, TritonAnswerError
from support.orchestrating import (
    ANY_FILM,
    CATALOG,
    ScriptedDecoder,
    ScriptedDetector,
    ScriptedMatcher,
    orchestrating,
    seen,
    summary_of,
    told,
)
from support.videos import Clip, encode

# Of the default size, so that a frame is worth more than what a socket holds.
PICTURE = raw_image(np.random.default_rng(1).integers(0, 256, (360, 640, 3)).astype(np.uint8))
IN_FLIGHT = 4
# Frames that may be between two services besides those in flight: in the buffers of gRPC on both sides.
BUFFERED = 12
ENDLESS = 100_000
EMBEDDER, EMBEDDING = "embedder", 16
CUP = 41  # of COCO's labels
CALLS = {
    "shoppable.v1.FrameDecoderService": "DecodeFrames",
    "shoppable.v1.ObjectDetectorService": "StreamDetectObjects",
    "shoppable.v1.ProductMatcherService": "MatchProducts",
    "shoppable.v1.OrchestratorService": "StreamAnnotateVideo",
}


def calls_in_work() -> dict[str, float]:
    """By service, as its metrics say."""
    gauge = metrics.CALLS_IN_WORK
    return {service: gauge.labels(service, method)._value.get() for service, method in CALLS.items()}


async def until(condition, limit_s: float = 20):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(count, *, pause_s: float = 0.4) -> int:
    """Wait until a count stands still, and return it."""
    async with asyncio.timeout(30):
        while True:
            before = count()
            await asyncio.sleep(pause_s)
            if count() == before:
                return before


def crowd(number: int) -> list:
    """Twelve things, others in every five frames."""
    if number % 10 >= 5:
        return []
    return [seen("cup", 0.02 + 0.08 * place, size=0.07) for place in range(12)]


async def test_a_caller_that_does_not_read_stops_the_decoder():
    decoder, boxes = ScriptedDecoder(ENDLESS, picture=PICTURE), ScriptedDetector(crowd)
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(
            orchestrating(
                decoder=decoder, detector=boxes, frames_in_flight=IN_FLIGHT, max_gap_s=0.5, reentry_window_s=0.1
            )
        )
        # Without the probe a caller's window stays at 64 KiB; with it, it grows to some megabytes.
        narrow = grpc.aio.insecure_channel(ours.address, options=[("grpc.http2.bdp_probe", 0)])
        client = OrchestratorClient(await stack.enter_async_context(narrow))
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG)
        async with contextlib.aclosing(client.stream_annotate(ANY_FILM.uri, options, timeout_s=60)) as messages:
            await anext(messages)
            stopped = await settled(lambda: decoder.sent, pause_s=1.0)
            assert stopped < 200
            read = 0
            async for _ in messages:  # it goes on where it stopped
                read += 1
                if decoder.sent > stopped + 50:
                    break
            assert read > 10
        await until(lambda: decoder.in_work == boxes.in_work == 0)


async def test_a_slow_detector_holds_the_decoder_back():
    decoder, boxes = ScriptedDecoder(80, picture=PICTURE), ScriptedDetector(lambda _: [seen("cup")], delay_s=0.02)
    ahead = []
    async with orchestrating(decoder=decoder, detector=boxes, frames_in_flight=IN_FLIGHT) as client:
        running = asyncio.ensure_future(told(client))
        while not running.done():
            ahead.append(decoder.sent - boxes.answered)
            await asyncio.sleep(0.005)
        assert summary_of(await running).frames_sampled == 80
    assert max(ahead) <= IN_FLIGHT + BUFFERED
    assert max(ahead) >= IN_FLIGHT  # it was the detector that the others waited for


async def test_a_slow_model_holds_the_real_detector_and_the_real_decoder_back(tmp_path):
    frames = 100

    async def slow(model, images):
        await asyncio.sleep(0.05)
        return np.zeros((len(images), 100, 6), np.float32)

    (tmp_path / "film.mp4").write_bytes(encode(Clip(frames=frames, rate=5, size=(640, 360))))
    triton, decoded = FakeTriton(packaged_models(), slow), metrics.FRAMES_SENT._value.get
    before, ahead = decoded(), []
    async with (
        triton.serving() as endpoint,
        running_decoder(tmp_path) as decoding,
        detector(endpoint) as detecting,
        orchestrating(decoder=decoding.address, detector=detecting.address, frames_in_flight=IN_FLIGHT) as client,
    ):
        looked_at = triton.started[COCO]  # by the detector's own checks
        running = asyncio.ensure_future(told(client, (tmp_path / "film.mp4").as_uri(), catalog=""))
        while not running.done():
            ahead.append(decoded() - before - (triton.started[COCO] - looked_at))
            await asyncio.sleep(0.005)
        assert summary_of(await running).frames_sampled == frames
    print(f"the decoder was at most {max(ahead):.0f} frames ahead of the model")
    # One service more has buffers than where the detector is scripted.
    assert IN_FLIGHT <= max(ahead) <= IN_FLIGHT + 2 * BUFFERED


async def test_a_slow_matcher_holds_the_detector_and_the_decoder_back():
    decoder, boxes = ScriptedDecoder(400, picture=PICTURE), ScriptedDetector(crowd)
    matcher = ScriptedMatcher(delay_s=0.05)
    limit = 2
    waiting = []
    async with orchestrating(
        decoder=decoder, detector=boxes, matcher=matcher,
        frames_in_flight=IN_FLIGHT, matches_in_flight=limit, max_gap_s=0.5, reentry_window_s=0.1,
    ) as client:  # fmt: skip
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, omit_thumbnails=True)
        async with contextlib.aclosing(client.stream_annotate(ANY_FILM.uri, options, timeout_s=60)) as messages:
            async for _ in messages:
                # Twelve things end in each ten frames.
                waiting.append(boxes.answered / 10 * 12 - len(matcher.asked))
                if len(matcher.asked) > 60:
                    break
    assert matcher.most_in_work == limit
    # Waiting tracks are bounded by 4 x matches_in_flight, and by those that end in one frame, and in flight.
    assert max(waiting) <= 4 * limit + 2 * 12 + (IN_FLIGHT + BUFFERED) / 10 * 12


async def test_a_slow_embedder_holds_all_real_services_back(tmp_path):
    limit, cups = 2, 12
    asked = Counter[str]()  # for the film; the services also ask, with black pictures, whether a model is well

    async def answer(model, images):
        asked[model] += bool(images.any())
        if model == EMBEDDER:
            await asyncio.sleep(0.1)
            return np.ones((len(images), EMBEDDING), np.float32)
        rows = np.zeros((len(images), 100, 6), np.float32)
        if model == COCO and images.mean() > 100:  # its upper and lower parts are dark
            for place in range(cups):
                rows[:, place] = [40 * place + 10, 150, 40 * place + 40, 190, 0.9, CUP]
        return rows

    def draw(number, width, height):
        return np.full((height, width, 3), 230 if number % 10 < 5 else 20, np.uint8)

    (tmp_path / "film.mp4").write_bytes(encode(Clip(frames=400, rate=5, size=(640, 360), draw=draw)))
    models = packaged_models() | {EMBEDDER: FakeModel((260, 260, 3), (EMBEDDING,), output_name="embeddings")}
    triton, decoded = FakeTriton(models, answer), metrics.FRAMES_SENT._value.get
    waiting, ahead = [], []
    async with (
        triton.serving() as endpoint,
        running_decoder(tmp_path) as decoding,
        detector(endpoint) as detecting,
        serving(settings_of(tmp_path / "data", endpoint, shutdown_grace_s=0), build_matcher) as (_, matcher),
        grpc.aio.insecure_channel(matcher) as channel,
        orchestrating(
            decoder=decoding.address, detector=detecting.address, matcher=matcher, views_per_object=1,
            frames_in_flight=IN_FLIGHT, matches_in_flight=limit, max_gap_s=0.5, reentry_window_s=0.1,
        ) as client,
    ):  # fmt: skip
        await MatcherClient(channel).upsert([upsert_of("cup")], catalog=CATALOG)
        before = decoded()
        asked.clear()
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, omit_thumbnails=True)
        film = (tmp_path / "film.mp4").as_uri()
        async with contextlib.aclosing(client.stream_annotate(film, options, timeout_s=60)) as messages:
            async for _ in messages:
                waiting.append(asked[COCO] / 10 * cups - asked[EMBEDDER])
                ahead.append(decoded() - before - asked[COCO])
                if asked[EMBEDDER] > 100:
                    break
    print(f"{max(waiting):.0f} things waited for the matcher; the decoder was {max(ahead):.0f} frames ahead")
    # As with the scripted ones; there are more buffers.
    assert limit < max(waiting) <= 4 * limit + 2 * cups + (IN_FLIGHT + 2 * BUFFERED) / 10 * cups
    assert max(ahead) <= IN_FLIGHT + 2 * BUFFERED


async def test_a_slow_decoder_is_waited_for_and_nothing_is_kept_waiting_behind_it():
    decoder, boxes = ScriptedDecoder(30, delay_s=0.03), ScriptedDetector(lambda _: [seen("cup")])
    behind = []
    async with orchestrating(decoder=decoder, detector=boxes) as client:
        running = asyncio.ensure_future(told(client))
        while not running.done():
            behind.append(decoder.sent - boxes.answered)
            await asyncio.sleep(0.01)
        assert summary_of(await running).frames_sampled == 30
    assert sorted(behind)[len(behind) // 2] <= 1


@pytest.mark.parametrize("ending", ["cancel", "deadline"])
async def test_a_caller_that_leaves_ends_the_work_in_every_service(ending):
    decoder, boxes = ScriptedDecoder(ENDLESS, picture=PICTURE), ScriptedDetector(crowd, delay_s=0.01)
    matcher = ScriptedMatcher(delay_s=1.0)
    async with orchestrating(
        decoder=decoder, detector=boxes, matcher=matcher,
        frames_in_flight=IN_FLIGHT, max_gap_s=0.5, reentry_window_s=0.1,
    ) as client:  # fmt: skip
        wanted = {"timeout_s": 2.0} if ending == "deadline" else {}
        running = asyncio.ensure_future(told(client, **wanted))
        await until(lambda: matcher.in_work > 0 and all(calls_in_work().values()))
        if ending == "cancel":
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        else:
            with pytest.raises(ShoppableError) as caught:
                await running
            assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        sent, answered, asked = decoder.sent, boxes.answered, len(matcher.asked)
        left = asyncio.get_running_loop().time()
        await until(lambda: not any(calls_in_work().values()))
        freed_ms = (asyncio.get_running_loop().time() - left) * 1e3
        print(f"{ending}: all services free after {freed_ms:.0f} ms")
        assert decoder.in_work == boxes.in_work == matcher.in_work == 0
        # At most what was in flight was still worked on; no new work began.
        assert decoder.sent - sent <= IN_FLIGHT + BUFFERED
        assert boxes.answered - answered <= IN_FLIGHT
        assert len(matcher.asked) == asked
        quiet = (decoder.sent, boxes.answered, len(matcher.asked))
        await asyncio.sleep(0.3)
        assert (decoder.sent, boxes.answered, len(matcher.asked)) == quiet


async def test_a_caller_that_leaves_ends_the_work_in_the_real_decoder_and_detector_and_in_triton(tmp_path):
    async def slow(model, images):
        await asyncio.sleep(0.05)
        return np.zeros((len(images), 100, 6), np.float32)

    (tmp_path / "film.mp4").write_bytes(encode(Clip(frames=600, rate=10)))
    triton = FakeTriton(packaged_models(), slow)
    async with (
        triton.serving() as endpoint,
        running_decoder(tmp_path) as decoding,
        detector(endpoint) as detecting,
        orchestrating(decoder=decoding.address, detector=detecting.address) as client,
    ):
        running = asyncio.ensure_future(told(client, (tmp_path / "film.mp4").as_uri(), catalog=""))
        await until(lambda: sum(triton.started.values()) > 20)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        started = sum(triton.started.values())
        services = list(CALLS)[:2] + list(CALLS)[3:]
        await until(lambda: not any(calls_in_work()[service] for service in services))
        await until(lambda: not sum(triton.in_work.values()))
        # Two models for each of the frames in flight.
        assert sum(triton.started.values()) - started <= 2 * 8
        assert sum(triton.started.values()) < 400


async def test_a_frame_that_the_model_fails_on_fails_alone_in_the_real_detector_and_decoder(tmp_path):
    frames, poison = 30, 12
    pictures: list[bytes] = []  # that differ, in the order in which the model met them
    tries = 0

    async def answer(model, images):
        nonlocal tries
        if model == COCO:
            picture = images.tobytes()
            if picture not in pictures:
                pictures.append(picture)
            if pictures.index(picture) == poison:
                tries += 1
                raise TritonAnswerError(grpc.StatusCode.INTERNAL, "the device fell over")
        return np.zeros((len(images), 100, 6), np.float32)

    (tmp_path / "film.mp4").write_bytes(encode(Clip(frames=frames, rate=5)))
    triton = FakeTriton(packaged_models(), answer)
    async with (
        triton.serving() as endpoint,
        running_decoder(tmp_path) as decoding,
        detector(endpoint) as detecting,
        # Patience that no test waits for: it is not what ends the tries.
        orchestrating(decoder=decoding.address, detector=detecting.address, patience_s=3600) as client,
    ):
        summary = summary_of(await told(client, (tmp_path / "film.mp4").as_uri(), catalog=""))
    assert (summary.frames_sampled, summary.frames_failed) == (frames, 1)
    assert 1 < tries <= 3


async def test_a_short_clip_is_not_starved_by_long_films():
    """Three long films and a short clip at a real detector that works on eight pictures at a time."""
    order: list[bool] = []  # of the pictures at one model: whether it is the clip's

    async def slow(model, images):
        if model == COCO:
            order.append(bool(images.mean() > 200))
        await asyncio.sleep(0.02)
        return np.zeros((len(images), 100, 6), np.float32)

    dark, bright = (raw_image(np.full((512, 512, 3), value, np.uint8)) for value in (10, 250))
    triton = FakeTriton(packaged_models(), slow)
    async with triton.serving() as endpoint, detector(endpoint, images_in_work=8, frames_in_flight=8) as detecting:
        films, clip = [ScriptedDecoder(ENDLESS, picture=dark) for _ in range(3)], ScriptedDecoder(24, picture=bright)
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(orchestrating(decoder=film, detector=detecting.address))
                for film in (*films, clip)
            ]
            running = [asyncio.ensure_future(told(client, catalog="")) for client in clients[:3]]
            await until(lambda: len(order) > 60)
            messages = await told(clients[3], catalog="")
            for film in running:
                film.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    assert summary_of(messages).frames_sampled == order.count(True) == 24
    first, last = order.index(True), len(order) - 1 - order[::-1].index(True)
    films_share = order[first:last].count(False) / 3
    print(f"while the clip's 24 frames were looked at, each film got {films_share:.0f}")
    # An equal share would be 24. The clip's frames come through two more hops than those that wait here.
    assert films_share <= 3 * 24
