"""What the object detector does when Triton is away, slow, broken or not what was declared, and callers leave."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from shoppable.local.ports import ReservedPort
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import COCO, WEARABLES, Detector, detail, detector, grey, packaged_models, unpacked, until
from support.fake_triton import Array, FakeModel, FakeTriton, TritonAnswerError

CANDIDATES = (100, 6)
MIDDLE = 256, 256  # of the COCO model's input, where any letterboxed picture has pixels


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton(packaged_models())


def nothing(images: Array) -> Array:
    return np.zeros((len(images), *CANDIDATES), np.float32)


def greys_only(model: str, images: Array) -> int | None:
    """The grey of the picture that the COCO model is asked about; None for the other model and readiness checks."""
    value = int(images[0, MIDDLE[0], MIDDLE[1], 0]) if model == COCO else 0
    return value or None


async def refused(call: Any, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is code
    return raised.value


def check_unavailable(error: grpc.aio.AioRpcError, *, model: str | None = None) -> error_details_pb2.ErrorInfo:
    info = detail(error, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INFERENCE_UNAVAILABLE", "shoppable")
    assert info.metadata["model"] == model or model is None
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    return info


async def listed(service: Detector) -> dict[str, pb.DetectionModel]:
    answer = await service.stub.ListDetectionModels(pb.ListDetectionModelsRequest(), timeout=10)
    return {model.name: model for model in answer.models}


async def is_serving(service: Detector) -> bool:
    return await service.health() == "SERVING"


async def is_not_serving(service: Detector) -> bool:
    return await service.health() == "NOT_SERVING"


async def test_triton_away_is_unavailable_quickly_and_its_coming_is_seen(triton: FakeTriton) -> None:
    port = ReservedPort()
    async with detector(port.address) as service:
        assert await service.health() == "NOT_SERVING"
        started = time.monotonic()
        check_unavailable(await refused(service.detect(grey(1))))
        answers = await service.stream([grey(1), grey(2)])
        models = await listed(service)
        assert time.monotonic() - started < 3

        assert [model.version for model in answers[0].models.models] == ["", ""]
        assert [answer.frame.frame_id for answer in answers[1:]] == [0, 1]
        for answer in answers[1:]:
            status = answer.frame.result.status
            assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert unpacked(status.details, error_details_pb2.ErrorInfo).reason == "INFERENCE_UNAVAILABLE"
        assert not any(model.ready or model.version for model in models.values())
        assert all("cannot be reached" in model.not_ready_reason for model in models.values())
        assert models[COCO].input_width == 512

        port.release()
        async with triton.serving(port.number):
            await until(lambda: is_serving(service))
            assert len((await service.detect(grey(1))).results) == 1
            assert all(model.ready and model.version == "1" for model in (await listed(service)).values())
        await until(lambda: is_not_serving(service))
        check_unavailable(await refused(service.detect(grey(1))))


async def test_model_whose_process_died_is_unavailable_though_triton_calls_it_ready(triton: FakeTriton) -> None:
    dead = {WEARABLES}

    async def answer(model: str, images: Array) -> Array:
        if model in dead:
            raise TritonAnswerError(grpc.StatusCode.INTERNAL, "Stub process 'detector' is not healthy.")
        return nothing(images)

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint) as service:
        assert await service.health() == "NOT_SERVING"
        error = await refused(service.detect(grey(1)))
        check_unavailable(error, model=WEARABLES)
        assert "Stub" not in (error.details() or "")
        models = await listed(service)
        assert (models[COCO].ready, models[WEARABLES].ready) == (True, False)
        # Who does not need the dead model is served.
        assert len((await service.detect(grey(1), models=[COCO])).results) == 1

        dead.clear()
        await until(lambda: is_serving(service))
        assert len((await service.detect(grey(1))).results) == 1


async def test_frozen_triton_is_unavailable_after_the_inference_timeout(triton: FakeTriton) -> None:
    frozen = asyncio.Event()

    async def answer(model: str, images: Array) -> Array:
        if frozen.is_set():
            await asyncio.Event().wait()
        return nothing(images)

    triton.answer = answer
    settings = {"inference_timeout_s": 0.3, "health_timeout_s": 0.3}
    async with triton.serving() as endpoint, detector(endpoint, **settings) as service:
        assert await service.health() == "SERVING"
        frozen.set()
        started = time.monotonic()
        error = await refused(service.detect(grey(1)))
        check_unavailable(error)
        assert "within 0.3 s" in (error.details() or "")
        assert time.monotonic() - started < 2
        frames = await service.stream([grey(1)])
        assert frames[1].frame.result.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        await until(lambda: is_not_serving(service))


async def test_caller_s_own_deadline_is_told_as_such_and_ends_the_work(triton: FakeTriton) -> None:
    async def answer(model: str, images: Array) -> Array:
        if images.any():
            await asyncio.Event().wait()
        return nothing(images)

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint) as service:
        request = pb.DetectObjectsRequest(images=[grey(1)])
        await refused(service.stub.DetectObjects(request, timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED)
        await until(lambda: idle(service, triton))
        # Nothing is wrong with the model.
        assert (await listed(service))[COCO].ready


async def idle(service: Detector, triton: FakeTriton) -> bool:
    await service.health()  # a moment
    return triton.in_work.total() == 0


@pytest.mark.parametrize(("text", "asked"), [("Socket closed", 2), ("Exceeds maximum queue size", 1)])
async def test_only_a_broken_connection_is_tried_again_and_only_once(triton: FakeTriton, text: str, asked: int) -> None:
    failures = 0
    asks = 0

    async def answer(model: str, images: Array) -> Array:
        nonlocal failures, asks
        if greys_only(model, images):
            asks += 1
            if failures:
                failures -= 1
                raise TritonAnswerError(grpc.StatusCode.UNAVAILABLE, text)
        return nothing(images)

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint) as service:
        failures = 1
        if asked == 2:
            assert len((await service.detect(grey(1))).results) == 1
        else:
            check_unavailable(await refused(service.detect(grey(1))), model=COCO)
        assert asks == asked
        asks, failures = 0, 2
        check_unavailable(await refused(service.detect(grey(1))), model=COCO)
        assert asks == asked


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (
            FakeModel((300, 300, 3), CANDIDATES),
            "input.height: declared 512, found 300; input.width: declared 512, found 300",
        ),
        (FakeModel((3, 512, 512), CANDIDATES), "input.order: declared nhwc, found the shape [-1, 3, 512, 512]"),
        (
            FakeModel((512, 512, 3), (84, 8400)),
            "output.name: the layout and the labels want ['any', 6], found [84, 8400]",
        ),
        (
            FakeModel((512, 512, 3), CANDIDATES, input_name="pixels"),
            "input.name: declared 'images', Triton has ['pixels']",
        ),
        (
            FakeModel((300, 512, 3), (84, 8400)),
            "detector_coco/shoppable.toml: input.height: declared 512, found 300; output.name: the layout",
        ),
    ],
)
async def test_model_that_is_not_as_declared_is_not_ready_and_the_difference_is_named(
    triton: FakeTriton, shapes: FakeModel, said: str
) -> None:
    triton.models[COCO] = shapes
    async with triton.serving() as endpoint, detector(endpoint) as service:
        assert await service.health() == "NOT_SERVING"
        assert said in (await listed(service))[COCO].not_ready_reason
        error = await refused(service.detect(grey(1)))
        assert check_unavailable(error, model=COCO).metadata["cause"] == "MODEL_MISMATCH"
        assert said in (error.details() or "")


async def test_model_with_more_classes_than_labels_is_not_as_declared(triton: FakeTriton) -> None:
    async def answer(model: str, images: Array) -> Array:
        output = nothing(images)
        output[:, 0] = (0, 0, 100, 100, 0.9, 80)
        return output

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint) as service:
        assert "a class number is 80" in (await listed(service))[COCO].not_ready_reason


async def test_model_that_triton_lacks_is_not_ready(triton: FakeTriton) -> None:
    del triton.models[WEARABLES]
    async with triton.serving() as endpoint, detector(endpoint) as service:
        models = await listed(service)
        assert (models[COCO].ready, models[WEARABLES].not_ready_reason) == (True, "Triton does not have it")
        check_unavailable(await refused(service.detect(grey(1))), model=WEARABLES)


async def test_results_come_in_the_order_of_the_frames_when_the_first_is_the_slowest(triton: FakeTriton) -> None:
    others_done = asyncio.Event()
    finished: list[int] = []

    async def answer(model: str, images: Array) -> Array:
        value = greys_only(model, images)
        if value is not None:
            if value == 1:
                await others_done.wait()
            finished.append(value)
            if len(finished) == 3:
                others_done.set()
        return nothing(images)

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint, frames_in_flight=4) as service:
        answers = await service.stream(grey(value) for value in range(1, 21))
    assert sorted(finished[:3]) == [2, 3, 4]
    assert [answer.frame.frame_id for answer in answers[1:]] == list(range(20))


@pytest.mark.parametrize("call", ["batch", "stream"])
async def test_one_call_has_no_more_in_work_than_its_limit(triton: FakeTriton, call: str) -> None:
    full = asyncio.Event()

    async def answer(model: str, images: Array) -> Array:
        if images.any():
            if triton.in_work[COCO] == triton.in_work[WEARABLES] == 3:
                full.set()
            await full.wait()
        return nothing(images)

    triton.answer = answer
    # So rarely checked that no readiness check is counted.
    settings = {"frames_in_flight": 3, "health_interval_s": 60}
    async with triton.serving() as endpoint, detector(endpoint, **settings) as service:
        images = [grey(value) for value in range(1, 13)]
        answers = await (service.stream(images) if call == "stream" else service.detect(*images))
    assert len(answers.results) == 12 if isinstance(answers, pb.DetectObjectsResponse) else len(answers) == 13
    # Both models of a picture at once, and three pictures.
    assert dict(triton.most_in_work) == {COCO: 3, WEARABLES: 3}


async def test_all_calls_together_have_no_more_in_work_than_the_service_s_limit(triton: FakeTriton) -> None:
    settings = {"frames_in_flight": 4, "images_in_work": 2, "health_interval_s": 60}
    async with triton.serving() as endpoint, detector(endpoint, **settings) as service:
        streams = [service.stream(grey(value) for value in range(1, 9)) for _ in range(4)]
        assert [len(answers) for answers in await asyncio.gather(*streams)] == [9] * 4
    assert max(triton.most_in_work.values()) <= 2


async def test_frames_are_not_read_while_the_caller_does_not_read_results(triton: FakeTriton) -> None:
    """A hundred detections are a large result and the caller's window is small: few fit into gRPC's own buffers."""
    count = 1000
    rows = np.array([[x * 50, y * 50, x * 50 + 40, y * 50 + 40, 0.9, 41] for x in range(10) for y in range(10)])

    async def answer(model: str, images: Array) -> Array:
        return np.repeat(rows[None], len(images), axis=0).astype(np.float32) if model == COCO else nothing(images)

    async def requests() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
        yield pb.StreamDetectObjectsRequest(config=pb.DetectionOptions(models=[COCO]))
        for number in range(count):
            frame = pb.DetectionFrame(frame_id=number, image=grey(1, width=512, height=512))
            yield pb.StreamDetectObjectsRequest(frame=frame)

    triton.answer = answer
    fixed_window = [("grpc.http2.bdp_probe", 0)]  # 64 KiB; else it grows to several MB on this fast a line
    async with (
        triton.serving() as endpoint,
        detector(endpoint, channel_options=fixed_window, health_interval_s=60) as service,
    ):
        call = service.stub.StreamDetectObjects(requests(), timeout=60)
        assert (await call.read()).HasField("models")
        seen, since = -1, time.monotonic()

        async def stalled() -> bool:
            nonlocal seen, since
            await service.health()
            if triton.started[COCO] != seen:
                seen, since = triton.started[COCO], time.monotonic()
            return time.monotonic() - since > 0.5

        await until(stalled)
        assert seen < 100
        for number in range(150):  # and it goes on
            answer_ = await call.read()
            assert answer_.frame.frame_id == number
            assert len(answer_.frame.result.detections) == 100

        async def gone() -> bool:
            await service.health()
            return not any("in_order" in repr(task.get_coro()) for task in asyncio.all_tasks())

        # The service stands at a write, where it does not hear of the cancellation by itself.
        assert not await gone()
        call.cancel()
        await until(gone)


async def test_cancelled_stream_ends_all_its_work_and_leaves_room_for_others(triton: FakeTriton) -> None:
    hold = asyncio.Event()

    async def answer(model: str, images: Array) -> Array:
        if images.any() and not hold.is_set():
            await hold.wait()
        return nothing(images)

    async def requests() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
        yield pb.StreamDetectObjectsRequest(config=pb.DetectionOptions())
        for number in range(20):
            yield pb.StreamDetectObjectsRequest(frame=pb.DetectionFrame(frame_id=number, image=grey(1)))

    async def busy(service: Detector) -> bool:
        await service.health()
        return triton.in_work[COCO] == triton.in_work[WEARABLES] == 4

    triton.answer = answer
    settings = {"images_in_work": 4, "health_interval_s": 60}
    async with triton.serving() as endpoint, detector(endpoint, **settings) as service:
        call = service.stub.StreamDetectObjects(requests(), timeout=30)
        await until(lambda: busy(service))
        call.cancel()
        await until(lambda: idle(service, triton), within_s=2)
        assert dict(triton.cancelled) == {COCO: 4, WEARABLES: 4}
        hold.set()
        assert len((await service.detect(*[grey(1)] * 8)).results) == 8
