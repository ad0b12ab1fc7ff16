"""What the object detector answers to requests that it cannot take; Triton is a stand-in that finds nothing."""

import io
import math
import resource
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import COCO, Detector, detail, detector, encoded, grey, packaged_models, raw, unpacked
from support.fake_triton import FakeTriton

MAX_PIXELS = 40_000
PICTURE = np.full((20, 30, 3), 90, np.uint8)
RGB24, JPEG = common_pb2.IMAGE_FORMAT_RGB24, common_pb2.IMAGE_FORMAT_JPEG
# A picture that cannot be read, and what its violation says.
BAD_PICTURES: dict[str, tuple[common_pb2.Image, str]] = {
    "empty": (common_pb2.Image(), "must not be empty"),
    "no picture": (common_pb2.Image(data=b"a text"), "readable picture"),
    "broken off": (common_pb2.Image(data=encoded(PICTURE, "JPEG").data[:300]), "readable picture"),
    "another format": (common_pb2.Image(data=encoded(PICTURE, "PNG").data, format=JPEG), "readable picture"),
    "a format of the future": (common_pb2.Image(data=b"x", format=99), "known format"),  # type: ignore[arg-type]
    "too few bytes": (common_pb2.Image(data=b"123", format=RGB24, width=2, height=2), "12 bytes, and has 3"),
    "too many bytes": (common_pb2.Image(data=bytes(13), format=RGB24, width=2, height=2), "12 bytes, and has 13"),
    "0 wide": (common_pb2.Image(data=b"123", format=RGB24, width=0, height=1), "sides of 1..16384"),
    "40,000 wide": (raw(np.zeros((1, 40_000, 3), np.uint8)), "sides of 1..16384"),
    "40,000 high in a file": (encoded(np.zeros((40_000, 1, 3), np.uint8), "PNG"), "sides of 1..16384"),
    "too many pixels": (raw(np.zeros((201, 200, 3), np.uint8)), f"at most {MAX_PIXELS} pixels"),
    "too many pixels in a file": (encoded(np.zeros((201, 200, 3), np.uint8), "PNG"), f"at most {MAX_PIXELS} pixels"),
}


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton(packaged_models())


@pytest.fixture
async def service(triton: FakeTriton) -> AsyncIterator[Detector]:
    async with (
        triton.serving() as endpoint,
        detector(endpoint, max_image_pixels=MAX_PIXELS, images_per_request=20) as served,
    ):
        yield served


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(error, error_details_pb2.ErrorInfo).reason == "INVALID_REQUEST"
    told = detail(error, error_details_pb2.BadRequest).field_violations
    return {violation.field: violation.description for violation in told}


async def test_every_bad_picture_of_a_batch_is_told_in_one_answer(service: Detector) -> None:
    good = grey(1)
    images = [image for bad, _ in BAD_PICTURES.values() for image in (bad, good)]
    assert len(images) == 24

    told = violations(await refusal(service.detect(*images[:20])))

    assert list(told) == [f"images[{2 * index}].data" for index in range(10)]
    for (name, (_, text)), said in zip(BAD_PICTURES.items(), told.values(), strict=False):
        assert text in said, name


async def test_bad_pictures_and_bad_options_are_told_together(service: Detector, triton: FakeTriton) -> None:
    before = triton.started.total()

    told = violations(
        await refusal(
            service.detect(
                grey(1), BAD_PICTURES["empty"][0], min_score=math.nan, categories=["boats"], max_detections=0
            )
        )
    )

    assert set(told) == {"options.min_score", "options.categories[0]", "options.max_detections", "images[1].data"}
    assert "drinkware" in told["options.categories[0]"]
    assert triton.in_work.total() == 0
    assert triton.started.total() - before <= 2  # the readiness checks'


@pytest.mark.parametrize("count", [0, 21])
async def test_no_pictures_and_too_many_are_refused(service: Detector, count: int) -> None:
    told = violations(await refusal(service.detect(*[grey(1)] * count)))

    assert told == {"images": f"must be 1..20 pictures, and are {count}"}


async def test_as_many_pictures_as_allowed_are_taken(service: Detector) -> None:
    assert len((await service.detect(*[grey(1)] * 20)).results) == 20


async def test_unknown_model_is_not_found_in_every_call(service: Detector) -> None:
    calls = [
        service.detect(grey(1), models=[COCO, "detector_of_gold"]),
        service.stream([grey(1)], models=["detector_of_gold"]),
        service.stub.GetDetectionModel(pb.GetDetectionModelRequest(name="detector_of_gold")),
    ]
    for call in calls:
        error = await refusal(call)

        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert detail(error, error_details_pb2.ErrorInfo).reason == "UNKNOWN_MODEL"
        resource = detail(error, error_details_pb2.ResourceInfo)
        assert (resource.resource_type, resource.resource_name) == ("detection model", "detector_of_gold")


async def test_unknown_models_are_named_all_at_once_and_a_version_is_no_part_of_a_name(service: Detector) -> None:
    error = await refusal(service.detect(grey(1), models=["detector_of_gold", COCO, f"{COCO}/versions/9"]))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert f"no model 'detector_of_gold', '{COCO}/versions/9'; it has" in (error.details() or "")


async def test_unknown_models_are_told_with_whatever_else_is_wrong(service: Detector) -> None:
    bad = {"models": [COCO, "detector_of_gold"], "min_score": 1.5}

    assert set(violations(await refusal(service.detect(grey(1), **bad)))) == {"options.min_score", "options.models[1]"}
    assert set(violations(await refusal(service.stream([grey(1)], **bad)))) == {"config.min_score", "config.models[1]"}


@pytest.mark.parametrize("score", [-0.001, 1.001, math.inf, -math.inf, math.nan])
async def test_threshold_that_is_no_share_is_refused_in_every_call(service: Detector, score: float) -> None:
    assert list(violations(await refusal(service.detect(grey(1), min_score=score)))) == ["options.min_score"]
    assert list(violations(await refusal(service.stream([grey(1)], min_score=score)))) == ["config.min_score"]


async def test_lists_without_end_are_refused_without_being_walked(service: Detector) -> None:
    told = violations(await refusal(service.detect(grey(1), models=[COCO] * 100_000, categories=["?"] * 100_000)))

    assert told["options.models"] == told["options.categories"] == "must be at most 100, and are 100000"
    assert "drinkware" in told["options.categories[0]"]
    assert told["options.categories[1]"] == "must be a category of this detector, too"


async def test_names_without_end_fit_into_the_answer(service: Detector) -> None:
    error = await refusal(service.detect(grey(1), models=[str(number) * 10_000 for number in range(100)]))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert (error.details() or "").startswith("this detector has no model '000")
    resource_info = detail(error, error_details_pb2.ResourceInfo)
    assert resource_info.resource_name == "0" * 100


async def test_request_beyond_the_limit_is_resource_exhausted_and_the_next_is_served(triton: FakeTriton) -> None:
    """A JPEG of 50 MB: a small picture with much behind it."""
    jpeg = encoded(PICTURE, "JPEG").data
    options = [("grpc.max_send_message_length", -1)]
    async with triton.serving() as endpoint, detector(endpoint, channel_options=options) as service:
        error = await refusal(service.detect(common_pb2.Image(data=jpeg + bytes(50 * 2**20))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len((await service.detect(common_pb2.Image(data=jpeg))).results) == 1


async def test_pictures_of_very_many_pixels_are_refused_before_they_are_decoded(triton: FakeTriton) -> None:
    """Files of less than a megabyte that would take 243 MB each, and a request may bring 32 of them."""
    buffer = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(buffer, "PNG")
    bomb = common_pb2.Image(data=buffer.getvalue())
    assert len(bomb.data) < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with triton.serving() as endpoint, detector(endpoint) as service:
        told = violations(await refusal(service.detect(*[bomb] * 32)))

    assert len(told) == 32
    assert "at most 25000000 pixels, and has 9000 x 9000" in told["images[31].data"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # kB


async def test_bad_frames_of_a_stream_get_a_status_and_the_stream_goes_on(service: Detector) -> None:
    images = [image for bad, _ in BAD_PICTURES.values() for image in (bad, grey(1))]

    answers = await service.stream(images)

    frames = [answer.frame for answer in answers[1:]]
    assert [frame.frame_id for frame in frames] == list(range(len(images)))
    for frame, (bad, text) in zip(frames[::2], BAD_PICTURES.values(), strict=True):
        assert frame.result.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], bad
        told = unpacked(frame.result.status.details, error_details_pb2.BadRequest).field_violations
        assert told[0].field == "frame.image.data"
        assert text in told[0].description
    assert not any(frame.result.HasField("status") for frame in frames[1::2])


async def send(service: Detector, *requests: pb.StreamDetectObjectsRequest) -> list[pb.StreamDetectObjectsResponse]:
    async def each() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
        for request in requests:
            yield request

    return [answer async for answer in service.stub.StreamDetectObjects(each(), timeout=30)]


CONFIG = pb.StreamDetectObjectsRequest(config=pb.DetectionOptions())
FRAME = pb.StreamDetectObjectsRequest(frame=pb.DetectionFrame(frame_id=7, image=grey(1)))


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "config"),
        ([FRAME, CONFIG], "config"),
        ([pb.StreamDetectObjectsRequest()], "config"),
        ([pb.StreamDetectObjectsRequest(config=pb.DetectionOptions(min_score=7))], "config.min_score"),
        ([CONFIG, FRAME, CONFIG], "frame"),
        ([CONFIG, FRAME, pb.StreamDetectObjectsRequest()], "frame"),
    ],
)
async def test_messages_in_the_wrong_order_end_the_stream(
    service: Detector, requests: list[pb.StreamDetectObjectsRequest], field: str
) -> None:
    assert list(violations(await refusal(send(service, *requests)))) == [field]


async def test_frames_before_a_wrong_message_are_answered(service: Detector) -> None:
    async def each() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
        for request in (CONFIG, FRAME, CONFIG):
            yield request

    call = service.stub.StreamDetectObjects(each(), timeout=30)

    assert [(await call.read()).WhichOneof("response") for _ in range(2)] == ["models", "frame"]
    assert "frame" in violations(await refusal(call.read()))


async def test_stream_of_no_frames_is_answered_with_the_models(service: Detector) -> None:
    assert len(await send(service, CONFIG)) == 1


async def test_message_that_is_none_is_an_invalid_argument(service: Detector) -> None:
    call = service.channel.unary_unary("/shoppable.v1.ObjectDetectorService/DetectObjects")

    error = await refusal(call(b"\xff\xff\xff", timeout=30))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
