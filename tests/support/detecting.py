"""What the object detector's service tests share: a detector in this process, pictures, details of errors."""

import contextlib
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from PIL import Image

from shoppable.detector.server import build
from shoppable.detector.settings import DetectorSettings
from shoppable.runtime.server import serving
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb
from shoppable.v1 import object_detector_pb2_grpc as pb_grpc
from support.fake_triton import FakeModel

COCO, WEARABLES = "detector_coco", "detector_wearables"
SERVICE = "shoppable.v1.ObjectDetectorService"
M = TypeVar("M", bound=Message)


def packaged_models() -> dict[str, FakeModel]:
    """The shapes of the two packaged models, for a FakeTriton."""
    return {COCO: FakeModel((512, 512, 3), (100, 6)), WEARABLES: FakeModel((300, 300, 3), (100, 6))}


class Detector:
    """A detector under test."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self.stub: Any = pb_grpc.ObjectDetectorServiceStub(channel)
        self.channel = channel
        self.address = address

    async def health(self) -> str:
        """Return the service's health, by name."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def detect(self, *images: common_pb2.Image, **options: Any) -> pb.DetectObjectsResponse:
        """Call DetectObjects."""
        request = pb.DetectObjectsRequest(images=images, options=pb.DetectionOptions(**options))
        answer: pb.DetectObjectsResponse = await self.stub.DetectObjects(request, timeout=30)
        return answer

    async def stream(self, images: Iterable[common_pb2.Image], **options: Any) -> list[pb.StreamDetectObjectsResponse]:
        """Send a config and frames numbered from 0, and return all answers."""

        async def requests() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
            yield pb.StreamDetectObjectsRequest(config=pb.DetectionOptions(**options))
            for number, image in enumerate(images):
                yield pb.StreamDetectObjectsRequest(frame=pb.DetectionFrame(frame_id=number, image=image))

        return [answer async for answer in self.stub.StreamDetectObjects(requests(), timeout=60)]


@contextlib.asynccontextmanager
async def detector(
    triton_endpoint: str, *, channel_options: Sequence[tuple[str, Any]] = (), **settings: Any
) -> AsyncIterator[Detector]:
    """Serve a detector on a free port while inside."""
    values: dict[str, Any] = {"port": 0, "health_interval_s": 0.1, "shutdown_grace_s": 0} | settings
    started = serving(DetectorSettings(triton_endpoint=triton_endpoint, **values), build)
    async with started as (_, address), grpc.aio.insecure_channel(address, options=channel_options) as channel:
        yield Detector(channel, address)


def raw(pixels: npt.NDArray[np.uint8]) -> common_pb2.Image:
    """A picture as RGB24."""
    height, width = pixels.shape[:2]
    return common_pb2.Image(data=pixels.tobytes(), format=common_pb2.IMAGE_FORMAT_RGB24, width=width, height=height)


def encoded(pixels: npt.NDArray[np.uint8], form: str) -> common_pb2.Image:
    """A picture as a file of the form that Pillow calls so."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return common_pb2.Image(data=buffer.getvalue())


def grey(value: int, *, width: int = 16, height: int = 16) -> common_pb2.Image:
    """A small picture of one grey: its value tells it from others on its way."""
    return raw(np.full((height, width, 3), value, np.uint8))


def detail(error: grpc.aio.AioRpcError, kind: type[M]) -> M:
    """The detail of a kind that an error carries."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # works on aio's errors, too
    assert status is not None
    return unpacked(status.details, kind)


def unpacked(details: Iterable[Any], kind: type[M]) -> M:
    """The first of packed details that is of a kind."""
    found = kind()
    assert any(one.Unpack(found) for one in details), kind
    return found


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 10) -> None:
    """Wait until something holds, at most so long. Poll over real calls: it does not pause between them."""
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, "did not come true in time"
