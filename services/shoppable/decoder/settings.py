"""All that can be set on a decoder."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shoppable.decoder.workers.devices import Wish
from shoppable.runtime.settings import Names, Paths, ServerSettings

# Containers and codecs that the tests read. Each more is more of FFmpeg within a stranger's reach.
_FORMATS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "mpegts", "avi", "gif")
_CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "h263"),
    *("prores", "mjpeg", "gif"),
)


class DecoderSettings(ServerSettings):
    """Settings of the frame decoder."""

    service: ClassVar[str] = "decoder"

    port: int = Field(50051, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    file_roots: Paths = Field(
        (), description="folders whose files may be read as file:// URIs, as a,b,c; unset: no file may"
    )
    max_inline_bytes: int = Field(16 * 2**20, ge=1, description="largest video that may be sent inside a request")
    max_upload_bytes: int = Field(2 * 2**30, ge=1, description="largest video that may be uploaded in chunks")
    max_file_bytes: int = Field(64 * 2**30, ge=1, description="largest file that may be read by its URI")
    spool_bytes: int = Field(
        4 * 2**20, ge=0, description="bytes of an upload that are kept in memory before it goes to a temporary file"
    )
    scratch_dir: Path | None = Field(
        None, description="folder for the temporary files of uploads; unset: the system's own"
    )
    upload_idle_s: float = Field(
        30.0, gt=0, description="seconds without a message after which a call that waits for one is ended"
    )
    reader_idle_s: float = Field(
        60.0, gt=0, description="seconds after which a call whose reader takes no frame is ended"
    )
    max_pixels: int = Field(
        4096 * 2304, ge=256, description="most pixels of a stored frame; a larger video is refused unopened"
    )
    max_duration_s: float = Field(6 * 3600.0, gt=0, description="longest video, in seconds of its time")
    max_frames: int = Field(2_000_000, ge=1, description="most frames of a video that are decoded in a call")
    max_idle_work_s: float = Field(
        30.0, gt=0, description="seconds of CPU that a video may take without giving a frame; then it is refused"
    )
    max_streams: int = Field(
        16, ge=1, description="videos in work at a time; more are refused with RESOURCE_EXHAUSTED and RetryInfo"
    )
    max_video_memory_bytes: int = Field(
        2**30, ge=2**26, description="most memory that the process which decodes a video may take for it"
    )
    decode_threads: int = Field(
        1,
        ge=1,
        le=16,
        description="threads inside a video's codec; 1 is best for many videos at a time, more help one alone",
    )
    hardware: Wish = Field(
        "none", description="none: decode in software; cuda, auto: on an NVIDIA GPU if there is one, else in software"
    )
    frames_ahead: int = Field(
        3, ge=1, le=32, description="sampled frames of a video that may wait for their reader; then decoding pauses"
    )
    formats: Names = Field(_FORMATS, description="FFmpeg's names of the containers that are read, as a,b,c")
    codecs: Names = Field(_CODECS, description="FFmpeg's names of the decoders that are used, as a,b,c")
