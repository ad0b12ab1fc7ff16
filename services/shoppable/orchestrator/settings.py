"""All that can be configured of the orchestrator."""

from typing import ClassVar, Literal

from pydantic import Field

from shoppable.runtime.settings import Names
from shoppable.runtime.triton_connection import TritonSettings


class OrchestratorSettings(TritonSettings):
    """Settings of the orchestrator."""

    service: ClassVar[str] = "orchestrator"

    port: int = Field(50050, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    max_concurrent_calls: int = Field(
        16, ge=1, description="videos in work at a time; more are refused with RESOURCE_EXHAUSTED and RetryInfo"
    )

    decoder_endpoint: str = Field("127.0.0.1:50051", description="address of the frame decoder")
    detector_endpoint: str = Field("127.0.0.1:50052", description="address of the object detector")
    matcher_endpoint: str = Field("127.0.0.1:50053", description="address of the product matcher")
    frame_format: Literal["rgb24", "jpeg"] = Field(
        "rgb24", description="pixels between the services: rgb24 is best on one host, jpeg across a network"
    )
    call_timeout_s: float = Field(
        3600.0, gt=0, description="seconds that a video may take when the caller sets no deadline"
    )
    match_timeout_s: float = Field(30.0, gt=0, description="seconds that matching one object may take")
    patience_s: float = Field(
        15.0,
        ge=0,
        description="seconds for which a service that is away is asked again before anything fails",
    )
    max_inline_bytes: int = Field(16 * 2**20, ge=2**10, description="largest video sent inline")

    default_frames_per_second: float = Field(5.0, gt=0, le=240, description="frames looked at by default, a second")
    default_longest_side: int = Field(640, ge=64, le=4096, description="longest side of frames by default, pixels")
    frames_in_flight: int = Field(8, ge=1, le=64, description="frames of a video between decoder and detection")
    matches_in_flight: int = Field(3, ge=1, le=64, description="objects of a video being matched at a time")

    max_gap_s: float = Field(1.0, gt=0, description="seconds that an object may be unseen within one segment")
    reentry_window_s: float = Field(
        10.0, ge=0, description="seconds after which an object that left is final: it comes back as the same before"
    )
    min_observations: int = Field(3, ge=1, description="sampled frames in which an object must be seen to be reported")
    views_per_object: int = Field(4, ge=1, le=8, description="best views of a segment that are matched")
    thumbnail_side: int = Field(320, ge=16, le=2048, description="longest side of thumbnails, pixels")

    excluded_categories: Names = Field(
        (), description="categories that are never offered, whoever asks, as a,b,c; each must be one of the detector's"
    )
    min_offer_area: float = Field(
        0.0, ge=0, le=1, description="share of the frame that an object must cover once to be offered, by default"
    )
    min_offer_seen_s: float = Field(
        0.0, ge=0, description="seconds that an object must be in the picture to be offered, by default"
    )
    classifier_model: str | None = Field(
        None,
        description="model on Triton that scores frames as sensitive, 0..1: input images UINT8 [height, width, 3],"
        " output score FP32 [1]; nothing is offered where it finds something or cannot answer; unset: none",
    )
    classifier_threshold: float = Field(0.5, ge=0, le=1, description="score from which a frame is sensitive")
    classifier_interval_s: float = Field(1.0, gt=0, description="seconds of film between two frames that are scored")
    classifier_padding_s: float = Field(
        2.0, ge=0, description="seconds before and after a sensitive frame in which nothing is offered either"
    )
    classifier_timeout_s: float = Field(2.0, gt=0, description="seconds that the classifier has for a frame")

    live_timeout_s: float = Field(
        7 * 86_400.0, gt=0, description="seconds that a live stream may take when the caller sets no deadline"
    )
    rematch_objects: int = Field(1000, ge=1, description="objects that one RematchProducts call may bring")
