"""Opens a video with PyAV (FFmpeg), and lets FFmpeg touch nothing but the file it is given.

Guards, each of which was seen to be needed:
- The input is an open file object, and both whitelists are always set: bytes that say `ffconcat` would otherwise open
  other files, even from memory.
- `max_pixels` is given to the opening, which decodes a little to learn about the streams, and again to the codec,
  which does not inherit it.
- Metadata is decoded with replacement: bad text would otherwise raise UnicodeDecodeError.
- FFmpeg reads through `WatchedFile`, so that a stop reaches it even while it searches a long file for a packet.
"""

import contextlib
import threading
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import structlog
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from shoppable.decoder import errors
from shoppable.decoder.adapters import hardware
from shoppable.decoder.adapters.effort import Effort
from shoppable.decoder.domain import NS_PER_S
from shoppable.decoder.errors import RefusedVideoError, StoppedError
from shoppable.decoder.inputs import OpenFile
from shoppable.runtime.errors import UnavailableError

# What FFmpeg's calls raise on bytes that make no sense. MemoryError comes from sizes that nobody could allocate.
DAMAGE = (av.error.FFmpegError, UnicodeDecodeError, MemoryError, OverflowError)
_log = structlog.get_logger(__name__)
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True)
class Guards:
    """What is read, and within which limits."""

    formats: tuple[str, ...]
    codecs: tuple[str, ...]
    max_pixels: int
    max_duration_ns: int
    max_frames: int
    max_idle_work_s: float  # of CPU, without a frame
    decode_threads: int
    device: str | None = None  # a GPU that decodes, as FFmpeg names its kind; None: software

    def check_pixels(self, width: int, height: int, field: str) -> None:
        """Refuse a stored picture that is too large."""
        pixels = width * height
        if pixels > self.max_pixels:
            raise self.too_large(field, f"has {width} x {height}", value=pixels)

    def too_large(self, field: str, text: str, *, value: int | None = None) -> RefusedVideoError:
        """Return the refusal of pictures that are too large; `value` is their size in pixels, if it is known."""
        return RefusedVideoError(
            field,
            f"must have frames of at most {self.max_pixels} pixels, and {text}",
            reason=errors.PIXEL_LIMIT,
            limit=self.max_pixels,
            value=value,
        )

    def check_frames(self, frames: int, field: str) -> None:
        """Refuse a video of too many frames."""
        if frames > self.max_frames:
            raise RefusedVideoError(
                field,
                f"must have at most {self.max_frames} frames",
                reason=errors.FRAME_LIMIT,
                limit=self.max_frames,
                value=frames,
            )

    def check_duration(self, duration_ns: int, field: str) -> None:
        """Refuse a video that is too long."""
        if duration_ns > self.max_duration_ns:
            limit, value = self.max_duration_ns // NS_PER_S, duration_ns // NS_PER_S
            raise RefusedVideoError(
                field,
                f"must last at most {limit} s, and lasts {value} s or more",
                reason=errors.DURATION_LIMIT,
                limit=limit,
                value=value,
            )


class WatchedFile:
    """The file as FFmpeg sees it. Its calls raise StoppedError once `stop` is set, and when the effort is too much."""

    def __init__(self, opened: OpenFile, stop: threading.Event, effort: Effort) -> None:
        self._file = opened.file
        self._seekable = opened.seekable
        self._stop = stop
        self._effort = effort

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        self._check()
        try:
            return self._file.read(size)
        except OSError as error:
            raise _failed_read() from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._check()
        try:
            return self._file.seek(offset, whence)
        except ValueError:  # a place before the file's start, which only a broken container asks for
            return -1
        except OSError as error:
            if offset < 0:
                return -1
            raise _failed_read() from error

    def seekable(self) -> bool:
        """Return whether FFmpeg may seek. If not, it neither looks for an index at the end nor asks for the size."""
        return self._seekable

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def _check(self) -> None:
        if self._stop.is_set():
            raise StoppedError
        self._effort.check()


@dataclass(frozen=True)
class OpenVideo:
    """A container with its chosen stream and the stream's codec, ready to decode."""

    container: InputContainer
    stream: VideoStream
    codec: VideoCodecContext
    time_base: Fraction  # seconds
    origin: int | None  # when the stream starts, in its time base
    duration_ns: int | None


def open_video(file: WatchedFile, guards: Guards, *, field: str, keyframes_only: bool) -> OpenVideo:
    """Open a video, at its beginning. Blocking. `field` is the path of the source in the request.

    Raises:
        RefusedVideoError: It is no video, or outside the limits.
        UnavailableError: The file cannot be read.
        StoppedError: Nobody wants it any more.
    """
    container = _open_container(file, guards, field)
    with contextlib.ExitStack() as stack:
        stack.callback(container.close)
        stream = _choose_stream(container, guards, field)
        codec = _open_codec(stream, guards, field, keyframes_only=keyframes_only)
        if not stream.time_base:
            raise RefusedVideoError(field, "must tell the times of its frames", reason=errors.NOT_A_VIDEO)
        time_base = Fraction(stream.time_base)
        duration_ns = _stated_duration_ns(container, stream, time_base)
        guards.check_duration(duration_ns or 0, field)
        stack.pop_all()
    return OpenVideo(container, stream, codec, time_base, stream.start_time, duration_ns)


def _open_container(file: WatchedFile, guards: Guards, field: str) -> InputContainer:
    options = {
        "format_whitelist": ",".join(guards.formats),
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(guards.codecs),
        "max_pixels": str(guards.max_pixels),
    }
    file.seek(0)
    if guards.device is not None:
        try:
            accelerated = hardware.acceleration(guards.device)
            return av.open(file, "r", options=options, metadata_errors="replace", hwaccel=accelerated)
        except hardware.FAILURES:
            _log.info("this video is decoded in software", device=guards.device)
            file.seek(0)
    try:
        return av.open(file, "r", options=options, metadata_errors="replace")
    except DAMAGE as error:
        raise RefusedVideoError(
            field,
            f"must be a whole video in a container that is read here: {', '.join(guards.formats)}",
            reason=errors.NOT_A_VIDEO,
        ) from error


def codec_name(stream: Stream) -> str:
    """Return FFmpeg's name of a stream's codec, which is not that of its decoder; empty if unknown."""
    codec: object = stream.codec_context
    return "" if codec is None else str(stream.codec_context.codec.canonical_name)


def _failed_read() -> UnavailableError:
    return UnavailableError("the video's file cannot be read now", reason="FILE_SYSTEM_FAILED")


def _merit(stream: VideoStream, guards: Guards) -> tuple[bool, bool, int, int]:
    """Rank a film: one that can be decoded, that its author prefers, that is large, that comes first."""
    codec: VideoCodecContext | None = stream.codec_context
    pixels = 0 if codec is None else codec.width * codec.height
    can = codec is not None and bool(_names(codec) & set(guards.codecs)) and 0 < pixels <= guards.max_pixels
    return can, bool(stream.disposition & Disposition.default), pixels, -stream.index


def _names(codec: VideoCodecContext) -> set[str]:
    return {codec.codec.name, str(codec.codec.canonical_name)}


def _choose_stream(container: InputContainer, guards: Guards, field: str) -> VideoStream:
    films = [stream for stream in container.streams.video if not stream.disposition & _NO_FILM]
    if not len(container.streams):
        raise RefusedVideoError(field, "must be a whole video, and has no stream at all", reason=errors.NOT_A_VIDEO)
    if not films:
        raise RefusedVideoError(field, "must have a stream of moving pictures", reason=errors.NO_VIDEO_STREAM)
    chosen = max(films, key=lambda stream: _merit(stream, guards))
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all  # not even read, where the container can skip it
    return chosen


def _open_codec(stream: VideoStream, guards: Guards, field: str, *, keyframes_only: bool) -> VideoCodecContext:
    codec: VideoCodecContext | None = stream.codec_context  # None: FFmpeg has no decoder for it
    name = codec_name(stream)
    if codec is None or not _names(codec) & set(guards.codecs):
        raise RefusedVideoError(
            field,
            f"must be of a codec that is decoded here ({', '.join(guards.codecs)}), and is {name or 'unknown'}",
            reason=errors.UNSUPPORTED_CODEC,
        )
    guards.check_pixels(codec.width, codec.height, field)
    codec.options = {"max_pixels": str(guards.max_pixels)}
    codec.thread_count = guards.decode_threads
    # Threads that decode several frames at a time hold as many frames more.
    codec.thread_type = ThreadType.AUTO if guards.decode_threads > 1 else ThreadType.SLICE
    if keyframes_only:
        codec.skip_frame = "NONKEY"
    try:
        codec.open(strict=False)
    except DAMAGE as error:
        raise RefusedVideoError(
            field, f"must be {name} that its decoder takes", reason=errors.UNSUPPORTED_CODEC
        ) from error
    return codec


def _stated_duration_ns(container: InputContainer, stream: VideoStream, time_base: Fraction) -> int | None:
    """Return the video stream's length, or else the container's, which may be that of the sound."""
    if stream.duration and stream.duration > 0:
        return int(stream.duration * time_base * NS_PER_S)
    tagged = _read_clock(stream.metadata.get("DURATION", ""))  # where Matroska keeps it
    if tagged:
        return tagged
    if container.duration and container.duration > 0:
        return container.duration * NS_PER_S // av.time_base
    return None


def _read_clock(text: str) -> int | None:
    """Read 00:00:06.500000000 as nanoseconds; None if it is nothing of the kind."""
    try:
        hours, minutes, seconds = text.split(":")
        return int((int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)) * NS_PER_S)
    except (ValueError, ZeroDivisionError):
        return None
