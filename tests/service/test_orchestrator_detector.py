"""The orchestrator's way to a detector that goes away and comes back, over real sockets."""

import asyncio
import contextlib
import itertools

import grpc
import pytest

from shoppable.client import DetectorClient, open_channel
from shoppable.orchestrator.adapters import detector
from shoppable.orchestrator.adapters.detector import DetectorAdapter
from shoppable.orchestrator.domain import DetectedFrame, Frame, Options
from shoppable.runtime.errors import DataLossError, ServiceError, UnavailableError, to_status
from shoppable.v1 import common_pb2, object_detector_pb2, object_detector_pb2_grpc
from support.scripted import scripted

FRAMES = 30


class Flaky(object_detector_pb2_grpc.ObjectDetectorServiceServicer):
    """Answers frames, and breaks each call after so many; the last number holds for all that follow."""

    def __init__(self, lives: list[int]) -> None:
        self.lives = lives
        self.calls = 0
        self.received: list[int] = []

    async def StreamDetectObjects(self, request_iterator, context):
        left = self.lives[min(self.calls, len(self.lives) - 1)]
        self.calls += 1
        yield object_detector_pb2.StreamDetectObjectsResponse(models={"models": [{"name": "m", "version": "1"}]})
        async for request in request_iterator:
            if request.WhichOneof("request") != "frame":
                continue
            self.received.append(request.frame.frame_id)
            if left == 0:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            left -= 1
            yield object_detector_pb2.StreamDetectObjectsResponse(frame={"frame_id": request.frame.frame_id})


class Tired(object_detector_pb2_grpc.ObjectDetectorServiceServicer):
    """Cannot look at any frame while `away` holds, as when its Triton is away."""

    def __init__(self, away) -> None:
        self.away = away
        self.asked = 0

    async def StreamDetectObjects(self, request_iterator, context):
        async for request in request_iterator:
            if request.WhichOneof("request") != "frame":
                continue
            self.asked += 1
            response = object_detector_pb2.StreamDetectObjectsResponse(frame={"frame_id": request.frame.frame_id})
            if self.away(self.asked):
                error = UnavailableError("Triton is away", reason="INFERENCE_UNAVAILABLE", retry_after_s=0.05)
                response.frame.result.status.CopyFrom(to_status(error))
            yield response


class Frames:
    def __init__(self, *, error: Exception | None = None) -> None:
        self.error = error
        self.drawn = 0
        self.closed = False

    async def __aiter__(self):
        try:
            for index in range(FRAMES):
                self.drawn += 1
                yield Frame(index, index / 5, common_pb2.Image(data=b"x"), scene_cut=False)
            if self.error:
                raise self.error
        finally:
            self.closed = True


@contextlib.asynccontextmanager
async def adapter(servicer: Flaky, *, patience_s: float = 10.0):
    async with scripted("ObjectDetectorService", servicer) as (_, address), open_channel(address) as channel:
        yield DetectorAdapter(DetectorClient(channel), frames_in_flight=4, patience_s=patience_s, timeout_s=30)


async def answers(detect: DetectorAdapter, frames: Frames) -> list[int]:
    options = Options(common_pb2.FrameSampling())
    items = [item async for item in detect.detect(frames, options)]
    assert not isinstance(items[0], DetectedFrame)
    return [item.frame.index for item in items[1:]]


async def test_each_frame_is_answered_once_and_in_order_though_calls_break():
    servicer = Flaky([7, 0, 5, 1000])
    async with adapter(servicer) as detect:
        assert await answers(detect, Frames()) == list(range(FRAMES))
    assert servicer.calls == 4


async def test_a_detector_that_stays_away_ends_the_call_after_some_patience():
    async with adapter(Flaky([3, 0]), patience_s=0.3) as detect:
        with pytest.raises(ServiceError) as caught:
            await answers(detect, Frames())
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_decoder_that_breaks_off_is_told_after_all_frames_before_it():
    async with adapter(Flaky([1000])) as detect:
        seen = []
        with pytest.raises(DataLossError):
            async for item in detect.detect(
                Frames(error=DataLossError("broke off", reason="X")), Options(common_pb2.FrameSampling())
            ):
                seen.append(item)
    assert len(seen) == FRAMES + 1


async def test_a_slow_reader_holds_the_frames_back():
    frames = Frames()
    async with adapter(Flaky([1000])) as detect:
        stream = detect.detect(frames, Options(common_pb2.FrameSampling()))
        for _ in range(3):
            await anext(stream)
        # Three were read; ahead are the frames in flight, one in the reader's hand, and what the sockets hold.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while frames.drawn < FRAMES:
                    await asyncio.sleep(0.01)
        assert frames.drawn <= 3 + 4 + 1 + 4
        await stream.aclose()
    assert frames.closed


async def test_frames_wait_while_triton_is_away_for_a_moment():
    servicer = Tired(lambda asked: 5 <= asked < 20)
    async with adapter(servicer) as detect:
        items = [item async for item in detect.detect(Frames(), Options(common_pb2.FrameSampling()))]
    assert [item.frame.index for item in items] == list(range(FRAMES))
    assert all(item.failure is None for item in items)


async def test_frames_fail_one_by_one_and_fast_once_patience_is_over():
    servicer = Tired(lambda asked: asked > 3)
    async with adapter(servicer, patience_s=0.3) as detect:
        items = [item async for item in detect.detect(Frames(), Options(common_pb2.FrameSampling()))]
    assert [item.frame.index for item in items] == list(range(FRAMES))
    assert [item.failure is None for item in items] == [True] * 3 + [False] * (FRAMES - 3)
    assert servicer.asked < 3 * FRAMES


async def test_patience_that_ends_while_a_frame_is_given_back_fails_frames_and_not_the_film(monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(detector._Patience, "is_over", property(lambda _: next(looks) > 0))
    async with adapter(Tired(lambda asked: asked > 3)) as detect:
        items = [item async for item in detect.detect(Frames(), Options(common_pb2.FrameSampling()))]
    assert [item.failure is None for item in items] == [True] * 3 + [False] * (FRAMES - 3)


async def test_a_triton_that_is_away_from_the_first_frame_on_is_an_error_at_once():
    frames = Frames()
    async with adapter(Tired(lambda _: True), patience_s=60) as detect:
        with pytest.raises(ServiceError) as caught:
            async for _ in detect.detect(frames, Options(common_pb2.FrameSampling())):
                pass
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.reason == "INFERENCE_UNAVAILABLE"
    assert frames.drawn < FRAMES


class Poisoned(object_detector_pb2_grpc.ObjectDetectorServiceServicer):
    """Can look at all frames but some, at which its inference fails."""

    def __init__(self, poison: set[int]) -> None:
        self.poison = poison
        self.tries: list[int] = []

    async def StreamDetectObjects(self, request_iterator, context):
        async for request in request_iterator:
            if request.WhichOneof("request") != "frame":
                yield object_detector_pb2.StreamDetectObjectsResponse(models={"models": [{"name": "m"}]})
                continue
            number = request.frame.frame_id
            response = object_detector_pb2.StreamDetectObjectsResponse(frame={"frame_id": number})
            if number in self.poison:
                self.tries.append(number)
                error = UnavailableError("failed", reason="INFERENCE_UNAVAILABLE", retry_after_s=0.05)
                response.frame.result.status.CopyFrom(to_status(error))
            yield response


async def test_a_poison_frame_fails_alone_and_holds_nothing_up():
    servicer = Poisoned({7, 20})
    # Patience that no test waits for: it is not what ends the tries.
    async with adapter(servicer, patience_s=3600) as detect:
        options = Options(common_pb2.FrameSampling())
        items = [item async for item in detect.detect(Frames(), options)][1:]
    assert [item.frame.index for item in items] == list(range(FRAMES))
    assert [item.frame.index for item in items if item.failure] == [7, 20]
    assert servicer.tries == [7] * 3 + [20] * 3
