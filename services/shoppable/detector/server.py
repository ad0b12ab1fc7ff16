"""What the object detector is made of."""

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from shoppable.detector.adapters.triton import TritonModel
from shoppable.detector.manifest import read_manifests
from shoppable.detector.pipeline import DetectionPipeline
from shoppable.detector.servicer import ObjectDetectorServicer, RequestLimits
from shoppable.detector.settings import DetectorSettings
from shoppable.detector.taxonomy import read_taxonomy
from shoppable.runtime.server import Assembly, Limit, Service
from shoppable.runtime.triton_connection import connect
from shoppable.v1 import object_detector_pb2, object_detector_pb2_grpc


@contextlib.asynccontextmanager
async def build(settings: DetectorSettings) -> AsyncIterator[Assembly]:
    """Make the detector: it starts without Triton, and is ready when every model has answered.

    Raises:
        ConfigurationError: A manifest or the taxonomy file cannot be used.
    """
    specs = read_manifests(settings.models)
    taxonomy = read_taxonomy(settings.taxonomy_file, specs)
    executor = ThreadPoolExecutor(settings.preprocess_threads, thread_name_prefix="preprocess")
    try:
        async with connect(settings) as client:
            models = [
                TritonModel(
                    client, spec, timeout_s=settings.inference_timeout_s, proof_lasts_s=settings.health_interval_s
                )
                for spec in specs
            ]
            pipeline = DetectionPipeline(
                models,
                taxonomy,
                executor=executor,
                pictures_per_call=settings.frames_in_flight,
                pictures_in_work=settings.images_in_work,
                fusion_iou=settings.fusion_iou,
            )
            limits = RequestLimits(settings.images_per_request, settings.max_image_pixels)
            yield Assembly(
                services=[
                    Service(
                        object_detector_pb2.DESCRIPTOR.services_by_name["ObjectDetectorService"],
                        object_detector_pb2_grpc.add_ObjectDetectorServiceServicer_to_server,
                        ObjectDetectorServicer(pipeline, taxonomy, limits),
                        ready=pipeline.check,
                    )
                ],
                limits=[
                    Limit("images_per_request", settings.images_per_request, "images"),
                    Limit("image_pixels", settings.max_image_pixels, "pixels"),
                    Limit("frames_in_flight", settings.frames_in_flight, "images"),
                    Limit("images_in_work", settings.images_in_work, "images"),
                ],
            )
    finally:
        # A thread that still decodes is not waited for: its result has no taker.
        executor.shutdown(wait=False, cancel_futures=True)
