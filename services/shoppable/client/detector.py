"""Client of the object detector."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable

import grpc

from shoppable.client.errors import readable, translated
from shoppable.client.streams import call_stream
from shoppable.v1 import common_pb2, object_detector_pb2, object_detector_pb2_grpc


class DetectorClient:
    """Calls an ObjectDetectorService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = object_detector_pb2_grpc.ObjectDetectorServiceStub(channel)

    async def detect(
        self,
        images: Iterable[common_pb2.Image],
        options: object_detector_pb2.DetectionOptions | None = None,
        *,
        timeout_s: float | None = None,
    ) -> object_detector_pb2.DetectObjectsResponse:
        """Find the objects of a batch of pictures."""
        request = object_detector_pb2.DetectObjectsRequest(images=images, options=options)
        with translated():
            return readable(await self._stub.DetectObjects(request, timeout=timeout_s))

    def stream_detect(
        self,
        frames: AsyncIterable[object_detector_pb2.DetectionFrame],
        options: object_detector_pb2.DetectionOptions | None = None,
        *,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[object_detector_pb2.StreamDetectObjectsResponse, None]:
        """Find the objects of frames as they come."""

        async def requests() -> AsyncIterator[object_detector_pb2.StreamDetectObjectsRequest]:
            yield object_detector_pb2.StreamDetectObjectsRequest(
                config=options or object_detector_pb2.DetectionOptions()
            )
            async for frame in frames:
                yield object_detector_pb2.StreamDetectObjectsRequest(frame=frame)

        return call_stream(self._stub.StreamDetectObjects, requests(), timeout_s=timeout_s)

    async def list_models(self, *, timeout_s: float | None = None) -> object_detector_pb2.ListDetectionModelsResponse:
        """List the detection models."""
        with translated():
            return readable(
                await self._stub.ListDetectionModels(
                    object_detector_pb2.ListDetectionModelsRequest(), timeout=timeout_s
                )
            )

    async def get_model(self, name: str, *, timeout_s: float | None = None) -> object_detector_pb2.DetectionModel:
        """Return a detection model."""
        request = object_detector_pb2.GetDetectionModelRequest(name=name)
        with translated():
            return readable(await self._stub.GetDetectionModel(request, timeout=timeout_s)).model

    async def list_categories(self, *, timeout_s: float | None = None) -> object_detector_pb2.ListCategoriesResponse:
        """List the categories of the detector's taxonomy."""
        with translated():
            return readable(
                await self._stub.ListCategories(object_detector_pb2.ListCategoriesRequest(), timeout=timeout_s)
            )
