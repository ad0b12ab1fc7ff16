"""What the decoder speaks of: samplings, orders, videos. Values only; no gRPC and no FFmpeg.

A time is a whole number of nanoseconds since the start of the video, rounded down. All comparisons are made on these,
so that a time which the decoder has sent means the same frame when it comes back as a start or an end.
"""

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TypeAlias

NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class FramesPerSecond:
    """So many frames a second of the video's time."""

    rate: Fraction


@dataclass(frozen=True)
class EveryNthFrame:
    """Every n-th frame, from the first one wanted."""

    n: int


@dataclass(frozen=True)
class KeyframesOnly:
    """What the encoder stored as key frames."""


@dataclass(frozen=True)
class Moments:
    """What is on the screen at given times, which rise."""

    times_ns: tuple[int, ...]  # at least one


@dataclass(frozen=True)
class Scenes:
    """The first frame after each hard cut, and so many frames a second besides."""

    rate: Fraction


Sampling: TypeAlias = FramesPerSecond | EveryNthFrame | KeyframesOnly | Moments | Scenes
DEFAULT_SAMPLING = FramesPerSecond(Fraction(5))


class Encoding(Enum):
    """How pictures leave."""

    RGB24 = "rgb24"
    JPEG = "jpeg"


@dataclass(frozen=True)
class Order:
    """Which frames of a video are wanted, and in what form."""

    sampling: Sampling = DEFAULT_SAMPLING
    start_ns: int = 0
    end_ns: int | None = None  # exclusive; None: the video's end
    longest_side: int | None = None  # pixels; None: the video's own
    encoding: Encoding = Encoding.RGB24
    jpeg_quality: int = 90


@dataclass(frozen=True)
class FilePath:
    """A file of the decoder's host."""

    path: str  # absolute; not yet held against the roots


@dataclass(frozen=True)
class WebAddress:
    """What a web server has. Neither its host nor its port are held against anything yet."""

    scheme: str  # https or http
    host: str  # a name in lower case, or an address without brackets
    port: int
    target: str  # path and query, encoded

    @property
    def authority(self) -> str:
        """Return host and port as a URL and the header Host have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = (self.scheme, self.port) in {("https", 443), ("http", 80)}
        return host if usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return it as text."""
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True)
class S3Object:
    """An object in a bucket, which is not yet held against the allowed ones."""

    bucket: str
    key: str


Place: TypeAlias = FilePath | WebAddress | S3Object


@dataclass(frozen=True)
class UriSource:
    """What a URI names."""

    uri: str
    place: Place


@dataclass(frozen=True)
class InlineSource:
    """A file inside the request."""

    data: bytes


@dataclass(frozen=True)
class UploadSource:
    """A file whose bytes follow."""

    total_bytes: int | None
    live: bool = False  # may never end


Source: TypeAlias = UriSource | InlineSource | UploadSource


class MediaKind(Enum):
    """What a stream of a container holds."""

    VIDEO = "video"
    AUDIO = "audio"
    SUBTITLE = "subtitle"
    OTHER = "other"


@dataclass(frozen=True)
class StreamFacts:
    """One stream of a container."""

    index: int
    kind: MediaKind
    codec: str  # empty if unknown


@dataclass(frozen=True)
class VideoFacts:
    """What a video is. Sizes are those of the upright picture with square pixels."""

    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: int  # clockwise: 0, 90, 180, 270
    duration_ns: int | None
    average_frame_rate: float | None
    frame_count: int | None
    pixel_format: str
    color_transfer: str  # empty if not stated
    hdr: bool
    interlaced: bool
    stream_index: int  # of the chosen stream in `streams`
    streams: tuple[StreamFacts, ...]
    size_bytes: int | None  # None: not known, for more is to come


@dataclass(frozen=True)
class Summary:
    """How the decoding of a video went."""

    frames_decoded: int
    frames_sent: int
    damaged_packets: int
    end_ns: int  # end of the last decoded frame
    truncated: bool


@dataclass(frozen=True)
class SampledFrame:
    """A frame that leaves."""

    index: int  # from 0
    time_ns: int
    picture: memoryview  # contiguous bytes, as `encoding` says; to be looked at until the next event is asked for
    encoding: Encoding
    width: int
    height: int
    keyframe: bool
    scene_cut: bool


Event: TypeAlias = VideoFacts | SampledFrame | Summary
