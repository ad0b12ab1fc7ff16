"""Decodes a video with PyAV: its facts, its frames with their times, and what was wrong with it.

Not thread-safe: one thread at a time.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shoppable.decoder import errors
from shoppable.decoder.adapters.opening import DAMAGE, Guards, StoppedError, WatchedFile, codec_name, open_video
from shoppable.decoder.domain import NS_PER_S, MediaKind, StreamFacts, VideoFacts
from shoppable.decoder.errors import BrokenVideoError, RefusedVideoError
from shoppable.decoder.geometry import UPRIGHT, Orientation, orientation_of, square_size
from shoppable.decoder.inputs import OpenFile

_MAX_READ_FAILURES = 16  # in a row, until the file counts as broken
_SEEK_STEPS_NS = (0, 2 * NS_PER_S, 10 * NS_PER_S)  # how far before the start a seek is tried
_INDEX_TAIL = 32  # entries at the index's end that are held against the file's size
_TS_PACKET_BYTES = (188, 192, 204)
_KINDS = {"video": MediaKind.VIDEO, "audio": MediaKind.AUDIO, "subtitle": MediaKind.SUBTITLE}


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the codec gave it."""

    time_ns: int  # since the video's start
    keyframe: bool
    picture: VideoFrame

    @property
    def orientation(self) -> Orientation:
        """Return how the picture becomes upright."""
        matrix = self.picture.side_data.get(SideDataType.DISPLAYMATRIX.name)
        if matrix is None:
            return UPRIGHT
        return orientation_of(np.frombuffer(bytes(cast(SideData, matrix)), np.int32).tolist())


@dataclass
class _Pass:
    """What is counted from one place in the file on."""

    frames_decoded: int = 0
    damaged_packets: int = 0
    end_ns: int = 0  # end of the last decoded frame
    last_ns: int = 0  # its time
    read_until_ns: int = 0  # end of the last packet, decoded or not


class VideoFile:
    """A video that is open."""

    def __init__(
        self, opened: OpenFile, guards: Guards, *, field: str, keyframes_only: bool, stop: threading.Event
    ) -> None:
        """Open the video and decode its first frame, which tells more than the container. Blocking.

        Args:
            opened: The file; the caller closes it.
            guards: The limits.
            field: The path of the source in the request, for errors.
            keyframes_only: Whether all frames but key frames are passed over undecoded.
            stop: Ends all work when it is set, from whatever thread.

        Raises:
            RefusedVideoError: It is no video, has no frame, or is outside the limits.
            UnavailableError: The file cannot be read.
            StoppedError: `stop` was set.
        """
        self._opened = opened
        self._file = WatchedFile(opened, stop)
        self._guards = guards
        self._field = field
        self._keyframes_only = keyframes_only
        self._stop = stop
        self._open()
        try:
            self._frames = self._decode()
            self._first = self._next_frame(self._frames)
            self.facts = self._facts(self._first)
        except BaseException:
            self.close()
            raise

    @property
    def tick_ns(self) -> int:
        """Return the resolution of the container's times."""
        return int(self._video.time_base * NS_PER_S)

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Return the width of a stored pixel as a share of its height."""
        return self._video.stream.sample_aspect_ratio

    @property
    def frames_decoded(self) -> int:
        """Return how many frames the codec gave."""
        return self._pass.frames_decoded

    @property
    def damaged_packets(self) -> int:
        """Return how many packets gave an error or a corrupt frame."""
        return self._pass.damaged_packets

    @property
    def end_ns(self) -> int:
        """Return the end of the last decoded frame."""
        return self._pass.end_ns

    @property
    def truncated(self) -> bool:
        """Return whether the file, which must have been read to its end, stops well before the end it states."""
        return self._ends_early() or self._ends_inside_ts_packet()

    def frames(self, start_ns: int) -> Iterator[DecodedFrame | None]:
        """Decode, once, from the last key frame at or before a time. Blocking at each step.

        Yields None where work may pause without a frame. A seek lands where the container's index says, in MPEG-TS
        often after the time: then it is tried from earlier, and at last all is decoded from the beginning.

        Raises:
            RefusedVideoError: A frame, or the video's time, is outside the limits.
            BrokenVideoError: Nothing more can be read although the video has not ended.
            UnavailableError, StoppedError: As at the opening.
        """
        first, frames = self._first, self._frames
        self._first = None
        if first is not None and start_ns > first.time_ns:
            first, frames = self._frames_near(start_ns)
        if first is not None:
            yield first
        yield from frames

    def close(self) -> None:
        """Close FFmpeg's side of the file; safe to repeat."""
        self._video.container.close()

    def _open(self) -> None:
        self._video = open_video(self._file, self._guards, field=self._field, keyframes_only=self._keyframes_only)
        self._origin = self._video.origin
        # Whole numbers: a Fraction for each frame would cost more than some codecs take to decode one.
        self._tick_numerator = self._video.time_base.numerator * NS_PER_S
        self._tick_denominator = self._video.time_base.denominator
        self._pass = _Pass()

    def _facts(self, first: DecodedFrame | None) -> VideoFacts:
        if first is None:
            raise RefusedVideoError(self._field, "must hold a frame that can be decoded", reason=errors.NO_FRAMES)
        container, stream = self._video.container, self._video.stream
        picture = first.picture
        width, height = first.orientation.size(*square_size(picture.width, picture.height, self.pixel_aspect))
        return VideoFacts(
            container=container.format.name,
            codec=codec_name(stream),
            width=width,
            height=height,
            rotation_degrees=first.orientation.rotation_degrees,
            duration_ns=self._video.duration_ns,
            average_frame_rate=float(stream.average_rate) if stream.average_rate else None,
            frame_count=stream.frames or None,
            pixel_format=picture.format.name,
            streams=tuple(
                StreamFacts(each.index, _KINDS.get(each.type, MediaKind.OTHER), codec_name(each))
                for each in container.streams
            ),
            size_bytes=self._opened.size_bytes,
        )

    # From a place on

    def _frames_near(self, start_ns: int) -> tuple[DecodedFrame | None, Iterator[DecodedFrame | None]]:
        """Return a key frame at or before a time, and the frames after it; or none, and all frames."""
        for step_ns in _SEEK_STEPS_NS:
            target_ns = start_ns - step_ns
            if target_ns <= 0 or not self._seek(target_ns):
                break
            frames = self._decode()
            first = self._next_frame(frames)
            if first is not None and first.keyframe and first.time_ns <= start_ns:
                return first, frames
        self.close()
        self._open()
        return None, self._decode()

    def _seek(self, time_ns: int) -> bool:
        video = self._video
        try:
            video.container.seek(
                int(Fraction(time_ns, NS_PER_S) / video.time_base) + (self._origin or 0), stream=video.stream
            )
        except DAMAGE:
            return False
        self._pass = _Pass()
        return True

    @staticmethod
    def _next_frame(frames: Iterator[DecodedFrame | None]) -> DecodedFrame | None:
        """Return the next frame, or None if there is none to be had."""
        try:
            return next((frame for frame in frames if frame is not None), None)
        except BrokenVideoError:
            return None

    def _decode(self) -> Iterator[DecodedFrame | None]:
        for packet in self._packets():
            yield from self._frames_of(packet)
            yield None
        if self._index_promises_more():
            raise BrokenVideoError("the video's file ends before the frames that its index lists")

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        """Read packets; the last one is empty, or None, and makes the codec give what it still holds."""
        failures = 0
        packets = self._video.container.demux(self._video.stream)
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                packet = next(packets)
            except StopIteration:
                return
            except DAMAGE as error:
                failures += 1
                if failures < _MAX_READ_FAILURES:
                    packets = self._video.container.demux(self._video.stream)
                    continue
                yield None
                if self._video.duration_ns is None or self._ends_early():
                    raise BrokenVideoError("nothing more can be read from the video's file") from error
                return
            self._pass.damaged_packets += failures
            failures = 0
            yield packet

    def _frames_of(self, packet: "Packet[VideoStream] | None") -> Iterator[DecodedFrame]:
        count = self._pass
        flushes = packet is None or not packet.size
        if packet is not None and not flushes:
            self._note_reading(packet)
        try:
            pictures = self._video.codec.decode(None if flushes else packet)
        except DAMAGE:
            count.damaged_packets += not flushes
            return
        for picture in pictures:
            self._guards.check_pixels(picture.width, picture.height, self._field)
            if picture.is_corrupt:
                count.damaged_packets += 1
                continue
            time_ns = self._time_of(picture)
            self._guards.check_duration(time_ns, self._field)
            count.frames_decoded += 1
            count.last_ns = time_ns
            count.end_ns = max(count.end_ns, self._end_of(picture, time_ns))
            yield DecodedFrame(time_ns, bool(picture.key_frame), picture)

    def _time_of(self, picture: VideoFrame) -> int:
        """Return a frame's time since the video's start; a frame without one follows the frame before."""
        if picture.pts is None:
            return self._pass.end_ns
        if self._origin is None:
            self._origin = picture.pts
        return max(0, self._ns(picture.pts - self._origin))

    def _end_of(self, picture: VideoFrame, time_ns: int) -> int:
        """Return when the frame after this one is due, rounded once."""
        if picture.pts is not None and self._origin is not None and picture.duration and picture.duration > 0:
            return self._ns(picture.pts - self._origin + picture.duration)
        rate = self._video.stream.average_rate
        return time_ns + (int(NS_PER_S / rate) if rate else 0)

    def _ns(self, ticks: int) -> int:
        """Return ticks of the stream, in which packets and frames count alike, rounded down to nanoseconds."""
        return ticks * self._tick_numerator // self._tick_denominator

    # How the file ends

    def _note_reading(self, packet: "Packet[VideoStream]") -> None:
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None:
            end = self._ns(ticks + (packet.duration or 0) - (self._origin or 0))
            self._pass.read_until_ns = max(self._pass.read_until_ns, end)

    def _ends_early(self) -> bool:
        """Return whether the packets stop by half a second and by 5 % before the stated length."""
        stated_ns = self._video.duration_ns
        if stated_ns is None:
            return False
        return stated_ns - self._pass.read_until_ns > max(NS_PER_S // 2, stated_ns // 20)

    def _index_promises_more(self) -> bool:
        """Return whether the index, as MP4 has one, lists frames that lie behind the end of the file."""
        entries = self._video.stream.index_entries
        tail = entries[max(0, len(entries) - _INDEX_TAIL) :]
        return any(entry.pos + entry.size > self._opened.size_bytes for entry in tail)

    def _ends_inside_ts_packet(self) -> bool:
        """Return whether an MPEG-TS file, which states no length, ends in the middle of one of its packets."""
        if self._video.container.format.name != "mpegts":
            return False
        self._opened.file.seek(0)
        head = self._opened.file.read(max(_TS_PACKET_BYTES) * 4)
        size = next((size for size in _TS_PACKET_BYTES if _has_period(head, size)), None)
        return size is not None and self._opened.size_bytes % size != 0


def _has_period(head: bytes, size: int) -> bool:
    """Return whether the sync byte of MPEG-TS, first seen within one packet, comes again after each packet."""
    first = head.find(b"\x47", 0, size)
    return first >= 0 and len(head) > first + size and all(byte == 0x47 for byte in head[first::size])
