"""Decoded frames and their times."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideData, SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shoppable.decoder.adapters.opening import OpenVideo
from shoppable.decoder.domain import NS_PER_S
from shoppable.decoder.geometry import UPRIGHT, Orientation, orientation_of

_LEAP_NS = 10 * NS_PER_S  # a gap between two frames that is worth a second look


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the codec gave it."""

    time_ns: int  # since the video's start
    end_ns: int  # when the next one is due
    keyframe: bool
    picture: VideoFrame

    @property
    def orientation(self) -> Orientation:
        """Return how the picture becomes upright."""
        # Not `picture.side_data`, which the picture keeps and which keeps the picture: such frames would pile up until
        # the garbage collector looks, each with its memory.
        found = SideDataContainer(self.picture)  # type: ignore[call-arg]  # its stub forgets the frame
        matrix = found.get(SideDataType.DISPLAYMATRIX.name)
        if matrix is None:
            return UPRIGHT
        return orientation_of(np.frombuffer(bytes(cast(SideData, matrix)), np.int32).tolist())


class Clock:
    """Tells the times of pictures and packets, in nanoseconds since the video's start, rounded down."""

    def __init__(self, video: OpenVideo, *, keyframes_only: bool) -> None:
        self._origin = video.origin  # ticks
        # AVI has no times of presentation, and FFmpeg's guess is wrong for H.264 that reorders frames. As frames leave
        # in their order, the time at which each was due to be decoded will do; but it is wrong where frames are passed
        # over, and there the guess is right.
        self._by_decoding = video.container.format.name == "avi" and not keyframes_only
        if video.container.format.name == "avi":
            self._origin = None  # the first frame is later than the file says, by the delay of reordering
        self._last: int | None = None  # ticks of the last picture
        rate = video.stream.average_rate
        self._frame_ns = int(NS_PER_S / rate) if rate else 0
        # Whole numbers: a Fraction for each frame would cost more than some codecs take to decode one.
        self._numerator = video.time_base.numerator * NS_PER_S
        self._denominator = video.time_base.denominator
        self._time_base = video.time_base

    def restart(self) -> None:
        """Forget the last picture: what comes next is from another place."""
        self._last = None

    def ticks_at(self, time_ns: int) -> int:
        """Return a time in the stream's own ticks."""
        return int(Fraction(time_ns, NS_PER_S) / self._time_base) + (self._origin or 0)

    def span_of(self, picture: VideoFrame, *, due_ns: int) -> tuple[int, int]:
        """Return a picture's time and end. One without a time is shown at `due_ns`, the end of the one before."""
        ticks = self._ticks_of(picture)
        self._last = ticks
        if ticks is None:
            return due_ns, due_ns + self._frame_ns
        if self._origin is None:
            self._origin = ticks
        time_ns = max(0, self._ns(ticks - self._origin))
        duration = picture.duration
        if duration and duration > 0:
            return time_ns, self._ns(ticks - self._origin + duration)  # rounded once
        return time_ns, time_ns + self._frame_ns

    def end_of_packet(self, packet: "Packet[VideoStream]") -> int | None:
        """Return until when a packet lasts, or None if it does not tell."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        return None if ticks is None else self._ns(ticks + (packet.duration or 0) - (self._origin or 0))

    def time_of_packet(self, packet: "Packet[VideoStream]") -> int | None:
        """Return the time of a packet's frame, or None if it does not tell."""
        return None if packet.pts is None else max(0, self._ns(packet.pts - (self._origin or 0)))

    def _ticks_of(self, picture: VideoFrame) -> int | None:
        if not self._by_decoding:
            return picture.pts
        if picture.dts is not None and (self._last is None or picture.dts > self._last):
            return picture.dts
        return self._last + 1 if self._last is not None else picture.pts  # a tick of AVI is a frame

    def _ns(self, ticks: int) -> int:
        return ticks * self._numerator // self._denominator


class LeapFilter:
    """Drops frames whose time is far ahead of both their neighbours: one of them would suppress all until then.

    A frame that leaps ahead waits until the next one tells whether time went on from there, or from before.
    """

    def __init__(self, *, due_ns: int, duration_ns: int | None) -> None:
        """`due_ns` is when the next frame is due; `duration_ns` is the length that the container states."""
        self._due_ns = due_ns
        self._duration_ns = duration_ns
        self._held: DecodedFrame | None = None
        self.dropped = 0

    def take(self, frame: DecodedFrame) -> Iterator[DecodedFrame]:
        """Yield what is sure after the next frame."""
        held = self._held
        if held is not None and frame.time_ns >= held.time_ns:
            self._held = None
            self._due_ns = held.end_ns
            yield held
        elif held is not None and frame.time_ns > self._due_ns - _LEAP_NS:
            self._held = None
            self.dropped += 1
        if self._held is None and frame.time_ns > self._due_ns + _LEAP_NS:
            self._held = frame
            return
        self._due_ns = max(self._due_ns, frame.end_ns) if frame.end_ns <= self._due_ns + _LEAP_NS else frame.time_ns
        yield frame

    def rest(self) -> Iterator[DecodedFrame]:
        """Yield the frame that waits at the end of the file, if it lies within the video."""
        held, self._held = self._held, None
        if held is None:
            return
        if self._duration_ns is not None and held.time_ns > self._duration_ns + _LEAP_NS:
            self.dropped += 1
            return
        yield held
