"""The object detector's RPCs: messages in, pipeline, messages out."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from shoppable.detector import convert
from shoppable.detector.pipeline import DetectionPipeline
from shoppable.detector.taxonomy import Taxonomy
from shoppable.runtime.validation import Violations
from shoppable.v1 import object_detector_pb2 as pb
from shoppable.v1 import object_detector_pb2_grpc as pb_grpc


@dataclass(frozen=True)
class RequestLimits:
    """What a request may bring."""

    images_per_request: int
    max_image_pixels: int


class ObjectDetectorServicer(pb_grpc.ObjectDetectorServiceServicer):
    """See the proto file for what each RPC does."""

    def __init__(self, pipeline: DetectionPipeline, taxonomy: Taxonomy, limits: RequestLimits) -> None:
        self._pipeline = pipeline
        self._taxonomy = taxonomy
        self._limits = limits

    async def DetectObjects(  # noqa: N802  # gRPC's name
        self, request: pb.DetectObjectsRequest, context: Any
    ) -> pb.DetectObjectsResponse:
        """Find the objects of a batch of pictures."""
        violations = Violations()
        options = convert.read_options(request.options, "options", violations, taxonomy=self._taxonomy)
        sources = convert.sources_of(
            request.images,
            violations,
            most=self._limits.images_per_request,
            max_pixels=self._limits.max_image_pixels,
        )
        if violations:
            # Refused anyway; the caller hears at once what is wrong with its pictures and models, too.
            convert.note_unknown_models(options, self._pipeline.models, "options", violations)
            for violation in await self._pipeline.read_all(sources):
                violations.add(violation.field, violation.description)
            violations.raise_if_any()
        plan = await self._pipeline.plan(options)
        results = await self._pipeline.detect_batch(sources, plan)
        return pb.DetectObjectsResponse(
            results=map(convert.image_detections, results), models=convert.model_versions(plan.models)
        )

    async def StreamDetectObjects(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamDetectObjectsRequest], context: Any
    ) -> AsyncIterator[pb.StreamDetectObjectsResponse]:
        """Find the objects of frames as they come."""
        violations = Violations()
        config = await convert.read_config(request_iterator)
        options = convert.read_options(config, "config", violations, taxonomy=self._taxonomy)
        if violations:
            convert.note_unknown_models(options, self._pipeline.models, "config", violations)
            violations.raise_if_any()
        plan = await self._pipeline.plan(options)
        models = pb.DetectionModelSet(models=convert.model_versions(plan.models))
        yield pb.StreamDetectObjectsResponse(models=models)
        frames = convert.read_frames(request_iterator, max_pixels=self._limits.max_image_pixels)
        async with contextlib.aclosing(self._pipeline.detect_stream(frames, plan)) as results:
            async for frame_id, outcome in results:
                result = convert.image_detections(outcome)
                yield pb.StreamDetectObjectsResponse(frame=pb.FrameDetections(frame_id=frame_id, result=result))

    async def ListDetectionModels(  # noqa: N802
        self, request: pb.ListDetectionModelsRequest, context: Any
    ) -> pb.ListDetectionModelsResponse:
        """List the models in order of their names."""
        names = sorted(self._pipeline.models)
        return pb.ListDetectionModelsResponse(
            models=[convert.detection_model(self._pipeline.models[name], self._taxonomy) for name in names]
        )

    async def GetDetectionModel(  # noqa: N802
        self, request: pb.GetDetectionModelRequest, context: Any
    ) -> pb.GetDetectionModelResponse:
        """Tell about one model."""
        model = self._pipeline.model(request.name)
        return pb.GetDetectionModelResponse(model=convert.detection_model(model, self._taxonomy))

    async def ListCategories(  # noqa: N802
        self, request: pb.ListCategoriesRequest, context: Any
    ) -> pb.ListCategoriesResponse:
        """List the taxonomy's categories in order of their ids."""
        return pb.ListCategoriesResponse(categories=convert.category_messages(self._taxonomy))
