"""All that can be set on a decoder."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from shoppable.decoder.workers.devices import Wish
from shoppable.runtime.settings import Names, Paths, ServerSettings, split_list

Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], NoDecode, BeforeValidator(split_list)]
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
    max_file_bytes: int = Field(64 * 2**30, ge=1, description="largest video that may be read by its URI")
    max_live_s: float = Field(
        24 * 3600.0, gt=0, description="longest upload that is said to be live, in seconds of its time"
    )
    spool_bytes: int = Field(
        4 * 2**20,
        ge=0,
        description="bytes of an upload that must be whole first, kept in memory before it goes to a temporary file",
    )
    upload_window_bytes: int = Field(
        4 * 2**20,
        ge=1,
        description="bytes of an upload that is decoded as it comes, which may wait in memory; then no more are taken",
    )
    scratch_dir: Path | None = Field(
        None, description="folder for the temporary files of uploads; unset: the system's own"
    )
    upload_idle_s: float = Field(
        30.0, gt=0, description="seconds without a message after which a call that waits for one is ended"
    )
    https_hosts: Names = Field(
        (),
        description="hosts whose files may be read as https:// URIs, as a,b,c; *.example.com: all below that one; "
        "*: all; unset: none",
    )
    https_ports: Ports = Field((443,), description="ports of these hosts that may be asked, as a,b,c")
    https_networks: Names = Field(
        (),
        description="networks besides the open internet in which these hosts may lie, as 10.1.0.0/16,fd00::/8; "
        "unset: none, so that no URI leads inside",
    )
    https_ca_file: Path | None = Field(
        None, description="PEM roots that the certificates of these hosts must come from; unset: the public ones"
    )
    plain_http: bool = Field(False, description="whether these hosts may also be asked by http:// URIs")
    s3_buckets: Names = Field(
        (),
        description="buckets whose objects may be read as s3:// URIs, as a,b,c; unset: none. Credentials are taken "
        "from the environment, as AWS's own tools do",
    )
    s3_endpoint: str | None = Field(
        None, description="server of these buckets, such as https://minio:9000; unset: AWS's, or AWS_ENDPOINT_URL"
    )
    s3_region: str | None = Field(None, description="region of these buckets; unset: AWS_REGION, or us-east-1")
    s3_anonymous: bool = Field(False, description="whether these buckets are public: requests are not signed")
    remote_cache_bytes: int = Field(
        8 * 2**20, ge=4 * 2**20, description="bytes of a video from https:// or s3:// that are kept in memory"
    )
    remote_header_s: float = Field(
        10.0, gt=0, description="seconds in which a server must be connected to and begin its answer"
    )
    remote_stall_s: float = Field(10.0, gt=0, description="seconds without a byte after which an answer is given up")
    remote_request_s: float = Field(
        60.0, gt=0, description="seconds that one piece of a video, 1 MiB, may take with all attempts"
    )
    remote_total_s: float = Field(
        3600.0, gt=0, description="seconds that a call may wait for the video's server, in all"
    )
    remote_attempts: int = Field(3, ge=1, le=10, description="attempts to read one piece of a video")
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
