"""What is wired to what in a decoder."""

import contextlib
import dataclasses
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from shoppable.decoder import wire
from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.allowed_sources import new_sources, schemes_of
from shoppable.decoder.convert import SourceLimits
from shoppable.decoder.domain import NS_PER_S
from shoppable.decoder.pipeline import DecoderPipeline
from shoppable.decoder.servicer import FrameDecoderServicer
from shoppable.decoder.settings import DecoderSettings
from shoppable.decoder.uploads import UploadLimits
from shoppable.decoder.workers.devices import find_device
from shoppable.decoder.workers.fleet import Fleet
from shoppable.decoder.workers.protocol import Limits
from shoppable.runtime.server import Assembly, Limit, Service
from shoppable.v1 import frame_decoder_pb2


def guards_of(settings: DecoderSettings) -> Guards:
    """Return the limits of a video that is decoded in software."""
    return Guards(
        formats=settings.formats,
        codecs=settings.codecs,
        max_pixels=settings.max_pixels,
        max_duration_ns=int(settings.max_duration_s * NS_PER_S),
        max_frames=settings.max_frames,
        max_idle_work_s=settings.max_idle_work_s,
        decode_threads=settings.decode_threads,
    )


@contextlib.asynccontextmanager
async def build(settings: DecoderSettings) -> AsyncIterator[Assembly]:
    """Yield the decoder's services; its processes and threads end with the context."""
    guards = guards_of(settings)
    limits = Limits(memory_bytes=settings.max_video_memory_bytes)
    uploads = UploadLimits(
        max_bytes=settings.max_upload_bytes,
        spool_bytes=settings.spool_bytes,
        scratch_dir=settings.scratch_dir,
        window_bytes=settings.upload_window_bytes,
    )
    # Threads begin only where they are needed.
    with ThreadPoolExecutor(settings.max_streams, thread_name_prefix="read") as readers:
        async with Fleet() as fleet:
            guards = dataclasses.replace(guards, device=await find_device(settings.hardware, fleet, guards, limits))
            pipeline = DecoderPipeline(
                sources=new_sources(settings, uploads),
                guards=guards,
                live_guards=dataclasses.replace(
                    guards, max_duration_ns=int(settings.max_live_s * NS_PER_S), max_frames=sys.maxsize, live=True
                ),
                limits=limits,
                uploads=uploads,
                max_streams=settings.max_streams,
                frames_ahead=settings.frames_ahead,
                fleet=fleet,
                readers=readers,
            )
            servicer = FrameDecoderServicer(
                pipeline,
                SourceLimits(settings.max_inline_bytes, settings.max_upload_bytes, schemes_of(settings)),
                upload_idle_s=settings.upload_idle_s,
                reader_idle_s=settings.reader_idle_s,
            )
            yield Assembly(
                services=[
                    Service(
                        descriptor=frame_decoder_pb2.DESCRIPTOR.services_by_name["FrameDecoderService"],
                        register=wire.register,
                        servicer=servicer,
                    )
                ],
                limits=[
                    Limit("inline_video_bytes", settings.max_inline_bytes, "bytes"),
                    Limit("upload_bytes", settings.max_upload_bytes, "bytes"),
                    Limit("file_bytes", settings.max_file_bytes, "bytes"),
                    Limit("video_frames", settings.max_frames, "frames"),
                    Limit("frame_pixels", settings.max_pixels, "pixels"),
                    Limit("video_seconds", int(settings.max_duration_s), "seconds"),
                    Limit("live_seconds", int(settings.max_live_s), "seconds"),
                    Limit("video_memory_bytes", settings.max_video_memory_bytes, "bytes"),
                    Limit("concurrent_streams", settings.max_streams, "calls"),
                ],
            )
