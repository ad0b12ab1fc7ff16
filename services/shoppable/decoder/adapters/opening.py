"""Opens a video with PyAV (FFmpeg), and lets FFmpeg touch nothing but the file it is given.

Guards, each of which was seen to be needed:
- The input is an open file object, and both whitelists are always set: bytes that say `ffconcat` would otherwise open
  other files, even from memory.
- `max_pixels` is given to the opening, which decodes a little to learn about the streams, and again to the codec,
  which does not inherit it.
- Metadata is decoded with replacement: bad text would otherwise raise UnicodeDecodeError.
- FFmpeg reads through `WatchedFile`, which bounds the work even while it searches a long file for a packet.
"""

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import av.error
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from shoppable.decoder import faults
from shoppable.decoder.adapters import hardware, memory
from shoppable.decoder.adapters.effort import Effort
from shoppable.decoder.domain import NS_PER_S
from shoppable.decoder.faults import RefusedError, UnreadableError

# What FFmpeg's calls raise on bytes that make no sense. MemoryError comes from sizes that nobody could allocate.
DAMAGE = (av.error.FFmpegError, UnicodeDecodeError, MemoryError, OverflowError)
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails


class ReadableFile(Protocol):
    """What is read like a file, by one thread at a time."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, and return it."""

    def tell(self) -> int:
        """Return the place."""

    def seekable(self) -> bool:
        """Return whether it can be read at any place. If not, only from the beginning, while little has been read."""


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
    live: bool = False  # whether bytes come as they are filmed: what is waited for makes all that follows late

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse a stored picture that is too large."""
        pixels = width * height
        if pixels > self.max_pixels:
            raise self.too_large(f"has {width} x {height}", value=pixels)

    def too_large(self, text: str, *, value: int | None = None) -> RefusedError:
        """Return the refusal of pictures that are too large; `value` is their size in pixels, if it is known."""
        return RefusedError(
            f"must have frames of at most {self.max_pixels} pixels, and {text}",
            reason=faults.PIXEL_LIMIT,
            limit=self.max_pixels,
            value=value,
        )

    def check_memory(self, error: Exception) -> None:
        """Tell a lack of memory from damage: see `memory`."""
        memory.check_memory(error, max_pixels=self.max_pixels)

    def check_frames(self, frames: int) -> None:
        """Refuse a video of too many frames."""
        if frames > self.max_frames:
            raise RefusedError(
                f"must have at most {self.max_frames} frames",
                reason=faults.FRAME_LIMIT,
                limit=self.max_frames,
                value=frames,
            )

    def check_duration(self, duration_ns: int) -> None:
        """Refuse a video that is too long."""
        if duration_ns > self.max_duration_ns:
            limit, value = self.max_duration_ns // NS_PER_S, duration_ns // NS_PER_S
            raise RefusedError(
                f"must last at most {limit} s, and lasts {value} s or more",
                reason=faults.DURATION_LIMIT,
                limit=limit,
                value=value,
            )


class WatchedFile:
    """The file as FFmpeg sees it. Its calls raise RefusedError when the effort is too much."""

    def __init__(self, file: ReadableFile, effort: Effort) -> None:
        self._file = file
        self._effort = effort

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        self._effort.check()
        try:
            return self._file.read(size)
        except OSError as error:
            raise _failed_read() from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._effort.check()
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
        return self._file.seekable()

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()


@dataclass(frozen=True)
class OpenVideo:
    """A container with its chosen stream and the stream's codec, ready to decode."""

    container: InputContainer
    stream: VideoStream
    codec: VideoCodecContext
    time_base: Fraction  # seconds
    origin: int | None  # when the stream starts, in its time base
    duration_ns: int | None
    accelerated: bool  # decoded on a GPU, if its kind of codec can be


def open_video(file: WatchedFile, guards: Guards, *, keyframes_only: bool) -> OpenVideo:
    """Open a video, at its beginning. Blocking.

    Raises:
        RefusedError: It is no video, or outside the limits.
        UnreadableError: The file cannot be read.
    """
    container, accelerated = _open_container(file, guards)
    with contextlib.ExitStack() as stack:
        stack.callback(container.close)
        stream = _choose_stream(container, guards)
        codec = _open_codec(stream, guards, keyframes_only=keyframes_only)
        if not stream.time_base:
            raise RefusedError("must tell the times of its frames", reason=faults.NOT_A_VIDEO)
        time_base = Fraction(stream.time_base)
        duration_ns = _stated_duration_ns(container, stream, time_base)
        guards.check_duration(duration_ns or 0)
        stack.pop_all()
    return OpenVideo(container, stream, codec, time_base, stream.start_time, duration_ns, accelerated)


def _open_container(file: WatchedFile, guards: Guards) -> tuple[InputContainer, bool]:
    """Return it, and whether a GPU decodes it."""
    options = {
        "format_whitelist": ",".join(guards.formats),
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(guards.codecs),
        "max_pixels": str(guards.max_pixels),
    }
    if guards.live:
        # FFmpeg measures the rate over twenty frames before it gives the first; the stream itself mostly tells it.
        options["fpsprobesize"] = "0"
    file.seek(0)
    if guards.device is not None:
        try:
            device = hardware.acceleration(guards.device)
            return av.open(file, "r", options=options, metadata_errors="replace", hwaccel=device), True
        except hardware.FAILURES:
            file.seek(0)
    try:
        return av.open(file, "r", options=options, metadata_errors="replace"), False
    except DAMAGE as error:
        guards.check_memory(error)
        raise RefusedError(
            f"must be a whole video in a container that is read here: {', '.join(guards.formats)}",
            reason=faults.NOT_A_VIDEO,
        ) from error


def codec_name(stream: Stream) -> str:
    """Return FFmpeg's name of a stream's codec, which is not that of its decoder; empty if unknown."""
    codec: object = stream.codec_context
    return "" if codec is None else str(stream.codec_context.codec.canonical_name)


def _failed_read() -> UnreadableError:
    return UnreadableError("the video's file cannot be read now")


def _merit(stream: VideoStream, guards: Guards) -> tuple[bool, bool, int, int]:
    """Rank a film: one that can be decoded, that its author prefers, that is large, that comes first."""
    codec: VideoCodecContext | None = stream.codec_context
    pixels = 0 if codec is None else codec.width * codec.height
    can = codec is not None and bool(_names(codec) & set(guards.codecs)) and 0 < pixels <= guards.max_pixels
    return can, bool(stream.disposition & Disposition.default), pixels, -stream.index


def _names(codec: VideoCodecContext) -> set[str]:
    return {codec.codec.name, str(codec.codec.canonical_name)}


def _choose_stream(container: InputContainer, guards: Guards) -> VideoStream:
    films = [stream for stream in container.streams.video if not stream.disposition & _NO_FILM]
    if not len(container.streams):
        raise RefusedError("must be a whole video, and has no stream at all", reason=faults.NOT_A_VIDEO)
    if not films:
        raise RefusedError("must have a stream of moving pictures", reason=faults.NO_VIDEO_STREAM)
    chosen = max(films, key=lambda stream: _merit(stream, guards))
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all  # not even read, where the container can skip it
    return chosen


def _open_codec(stream: VideoStream, guards: Guards, *, keyframes_only: bool) -> VideoCodecContext:
    codec: VideoCodecContext | None = stream.codec_context  # None: FFmpeg has no decoder for it
    name = codec_name(stream)
    if codec is None or not _names(codec) & set(guards.codecs):
        raise RefusedError(
            f"must be of a codec that is decoded here ({', '.join(guards.codecs)}), and is {name or 'unknown'}",
            reason=faults.UNSUPPORTED_CODEC,
        )
    guards.check_pixels(codec.width, codec.height)
    codec.options = {"max_pixels": str(guards.max_pixels)}
    codec.thread_count = guards.decode_threads
    # Threads that decode several frames at a time hold as many frames more.
    codec.thread_type = ThreadType.AUTO if guards.decode_threads > 1 else ThreadType.SLICE
    if keyframes_only:
        codec.skip_frame = "NONKEY"
    try:
        codec.open(strict=False)
    except DAMAGE as error:
        guards.check_memory(error)
        raise RefusedError(f"must be {name} that its decoder takes", reason=faults.UNSUPPORTED_CODEC) from error
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
