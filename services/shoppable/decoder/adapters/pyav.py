"""Decodes a video with PyAV: its facts, its frames with their times, and what was wrong with it.

Not thread-safe: one thread at a time.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from av.error import ArgumentError
from av.packet import Packet
from av.video.stream import VideoStream

from shoppable.decoder.adapters.effort import Effort
from shoppable.decoder.adapters.ending import ends_early, ends_inside_ts_packet, index_promises_more
from shoppable.decoder.adapters.facts import facts_of
from shoppable.decoder.adapters.frames import Clock, DecodedFrame, LeapFilter
from shoppable.decoder.adapters.opening import DAMAGE, Guards, ReadableFile, WatchedFile, open_video
from shoppable.decoder.containers import TS_HEAD_BYTES
from shoppable.decoder.domain import NS_PER_S
from shoppable.decoder.faults import NO_FRAMES, BrokenError, RefusedError

_MAX_READ_FAILURES = 16  # in a row, until the file counts as broken
_MAX_WITHOUT_SIZE = 8  # packets in a row
_SEEK_STEPS_NS = (0, 2 * NS_PER_S, 10 * NS_PER_S)  # how far before the start a seek is tried
_USUAL_KEY_INTERVAL_NS = 10 * NS_PER_S
_BOTTOM_FIELD_FIRST = (3, 4)  # AV_FIELD_BB, AV_FIELD_TB: as shown, whatever the order in the file


@dataclass
class _Pass:
    """What is counted from one place in the file on."""

    frames_decoded: int = 0
    damaged_packets: int = 0
    end_ns: int = 0  # end of the last decoded frame
    read_until_ns: int = 0  # end of the last packet, decoded or not
    without_size: int = 0  # packets in a row whose frames are of a size that the codec did not take


class VideoFile:
    """A video that is open."""

    def __init__(self, file: ReadableFile, guards: Guards, *, size_bytes: int | None, keyframes_only: bool) -> None:
        """Open the video and decode its first frame, which tells more than the container. Blocking.

        Args:
            file: The file; the caller closes it.
            guards: The limits.
            size_bytes: The size of the file; None if it is not known yet.
            keyframes_only: Whether all frames but key frames are passed over undecoded.

        Raises:
            RefusedError: It is no video, has no frame, or is outside the limits.
            UnreadableError: The file cannot be read.
        """
        self._size_bytes = size_bytes
        self._effort = Effort(guards.max_idle_work_s)
        self._file = WatchedFile(file, self._effort)
        self._guards = guards
        self._keyframes_only = keyframes_only
        self._pass = _Pass()
        self._rules_out: Callable[[int], bool] | None = None
        self._seeks_badly = not file.seekable()  # or it was tried, and led nowhere
        self._head = self._file.read(TS_HEAD_BYTES)  # now: some files cannot be read again
        self._open()
        try:
            self._frames = self._decode()
            self._first: DecodedFrame | None = self._required_frame(self._frames)
            self.facts = facts_of(self._video, self._first, size_bytes=size_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def accelerated(self) -> bool:
        """Return whether a GPU decodes it, if its kind of codec can be."""
        return self._video.accelerated

    @property
    def tick_ns(self) -> int:
        """Return the resolution of the container's times."""
        return int(self._video.time_base * NS_PER_S)

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Return the width of a stored pixel as a share of its height."""
        return self._video.stream.sample_aspect_ratio

    @property
    def bottom_field_first(self) -> bool:
        """Return which field of interlaced frames is shown first."""
        return self._video.codec.field_order in _BOTTOM_FIELD_FIRST

    @property
    def frames_decoded(self) -> int:
        """Return how many frames the codec gave."""
        return self._pass.frames_decoded

    @property
    def damaged_packets(self) -> int:
        """Return how many packets gave an error or a corrupt frame."""
        return self._pass.damaged_packets

    def skip_if(self, rules_out: Callable[[int], bool]) -> None:
        """Leave frames undecoded that no other frame refers to and whose times `rules_out` says are not wanted."""
        # In AVI frames are told apart by what was decoded when.
        self._rules_out = None if self._video.container.format.name == "avi" else rules_out

    @property
    def end_ns(self) -> int:
        """Return the end of the last decoded frame."""
        return self._pass.end_ns

    @property
    def truncated(self) -> bool:
        """Return whether the file, which must have been read to its end, stops well before the end it states."""
        return self._ends_early() or ends_inside_ts_packet(
            self._video.container.format.name, self._head, self._whole_size()
        )

    def frames(self, start_ns: int) -> Iterator[DecodedFrame | None]:
        """Decode from the last key frame at or before a time. Blocking at each step.

        May be called again, for a later time, when no more is wanted of what it gave before.

        Yields None where work may pause without a frame. A seek lands where the container's index says, in MPEG-TS
        often after the time: then it is tried from earlier, and at last all is decoded from the beginning.

        Raises:
            RefusedError: A frame, or the video's time, is outside the limits.
            BrokenError: Nothing more can be read although the video has not ended.
            UnreadableError: As at the opening.
        """
        first, frames = self._first, self._frames
        self._first = None
        if first is None:
            first, frames = self._frames_near(start_ns)
        elif start_ns > first.time_ns and self._file.seekable() and not self._last_key_frame_is(first, start_ns):
            self._pass = _Pass()  # what was decoded to know the video does not count
            first, frames = self._frames_near(start_ns)
        if first is not None:
            yield first
        yield from frames

    def key_frame_lies_between(self, after_ns: int, until_ns: int) -> bool:
        """Return whether `frames(until_ns)` would pass over a part of what follows `after_ns`, as far as is known.

        Without an index, a key frame is expected every ten seconds.
        """
        if self._seeks_badly or until_ns <= after_ns:
            return False
        ticks = self._key_frame_before(until_ns)
        if ticks is None:
            return until_ns - after_ns > _USUAL_KEY_INTERVAL_NS
        return ticks > self._clock.ticks_at(after_ns)

    def close(self) -> None:
        """Close FFmpeg's side of the file; safe to repeat."""
        self._video.container.close()

    def _open(self) -> None:
        with self._effort:
            self._video = open_video(self._file, self._guards, keyframes_only=self._keyframes_only)
        self._clock = Clock(self._video, keyframes_only=self._keyframes_only)

    # From a place on

    def _last_key_frame_is(self, first: DecodedFrame, start_ns: int) -> bool:
        """Return whether the way to a time is known to begin at the video's first frame, which is decoded already."""
        ticks = self._key_frame_before(start_ns)
        return ticks is not None and first.keyframe and ticks <= self._clock.ticks_at(first.time_ns)

    def _key_frame_before(self, time_ns: int) -> int | None:
        """Return the ticks of the last key frame that the index lists at or before a time; None without an index."""
        entries = self._video.stream.index_entries
        if len(entries) < 2 or self._video.container.format.name == "mpegts":  # whose index holds only what was read
            return None
        found = entries.search_timestamp(self._clock.ticks_at(time_ns))
        return entries[found].timestamp if found >= 0 else None

    def _frames_near(self, start_ns: int) -> tuple[DecodedFrame | None, Iterator[DecodedFrame | None]]:
        """Return a key frame at or before a time, and the frames after it; or none, and all frames."""
        for step_ns in _SEEK_STEPS_NS:
            target_ns = start_ns - step_ns
            if target_ns <= 0 or not self._seek(target_ns):
                break
            frames = self._decode(due_ns=target_ns)
            first = self._next_frame(frames)
            if first is not None and first.keyframe and first.time_ns <= start_ns:
                return first, frames
        self.close()
        self._open()
        self._seeks_badly = True
        return None, self._decode()

    def _seek(self, time_ns: int) -> bool:
        try:
            self._video.container.seek(self._clock.ticks_at(time_ns), stream=self._video.stream)
        except DAMAGE:
            return False
        self._clock.restart()
        return True

    def _required_frame(self, frames: Iterator[DecodedFrame | None]) -> DecodedFrame:
        first = self._next_frame(frames)
        if first is None:
            raise RefusedError("must hold a frame that can be decoded", reason=NO_FRAMES)
        return first

    @staticmethod
    def _next_frame(frames: Iterator[DecodedFrame | None]) -> DecodedFrame | None:
        """Return the next frame, or None if there is none to be had."""
        try:
            return next((frame for frame in frames if frame is not None), None)
        except BrokenError:
            return None

    def _decode(self, *, due_ns: int = 0) -> Iterator[DecodedFrame | None]:
        """Decode from where the container is; a frame at about `due_ns` is due."""
        leaps = LeapFilter(due_ns=due_ns, duration_ns=self._video.duration_ns)
        for packet in self._packets():
            for frame in self._frames_of(packet):
                yield from map(self._checked, leaps.take(frame))
            yield None
        yield from map(self._checked, leaps.rest())
        self._pass.damaged_packets += leaps.dropped
        if index_promises_more(self._video.stream, self._whole_size()):
            raise BrokenError("the video's file ends before the frames that its index lists")

    def _checked(self, frame: DecodedFrame) -> DecodedFrame:
        self._guards.check_duration(frame.time_ns)
        self._pass.end_ns = max(self._pass.end_ns, frame.end_ns)
        return frame

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        """Read packets; the last one is empty, or None, and makes the codec give what it still holds."""
        failures = 0
        packets = self._video.container.demux(self._video.stream)
        while True:
            try:
                with self._effort:
                    packet = next(packets)
            except StopIteration:
                return
            except IndexError:  # PyAV's, for a packet of a stream that was not there at the opening
                packets = self._video.container.demux(self._video.stream)
                continue
            except DAMAGE as error:
                self._guards.check_memory(error)
                failures += 1
                if failures < _MAX_READ_FAILURES:
                    packets = self._video.container.demux(self._video.stream)
                    continue
                yield None
                if self._video.duration_ns is None or self._ends_early():
                    raise BrokenError("nothing more can be read from the video's file") from error
                return
            self._pass.damaged_packets += failures
            failures = 0
            yield packet

    def _frames_of(self, packet: "Packet[VideoStream] | None") -> Iterator[DecodedFrame]:
        count, codec = self._pass, self._video.codec
        flushes = packet is None or not packet.size
        if packet is not None and not flushes:
            end_ns = self._clock.end_of_packet(packet) or 0
            count.read_until_ns = max(count.read_until_ns, end_ns)
            if self._rules_out is not None:
                time_ns = self._clock.time_of_packet(packet)
                skip = time_ns is not None and self._rules_out(time_ns)
                codec.skip_frame = "NONREF" if skip else "DEFAULT"
                if skip:  # it may be the last one
                    count.end_ns = max(count.end_ns, end_ns)
        try:
            with self._effort:
                pictures = codec.decode(None if flushes else packet)
        except DAMAGE as error:
            self._guards.check_memory(error)
            self._check_growth(error)
            count.damaged_packets += not flushes
            return
        for picture in pictures:
            self._guards.check_pixels(picture.width, picture.height)
            if picture.is_corrupt:
                count.damaged_packets += 1
                continue
            count.frames_decoded += 1
            count.without_size = 0
            self._effort.rewarded()
            self._guards.check_frames(count.frames_decoded)
            time_ns, end_ns = self._clock.span_of(picture, due_ns=count.end_ns)
            yield DecodedFrame(time_ns, end_ns, bool(picture.key_frame), picture)

    def _check_growth(self, error: Exception) -> None:
        """Tell frames that grow beyond the limit from damage: the codec refuses both alike.

        Some codecs keep the size that they refuse. Others forget it, as they do with a size that makes no sense: then
        it takes several packets, since one may be damaged.
        """
        codec, count = self._video.codec, self._pass
        self._guards.check_pixels(codec.width, codec.height)
        count.without_size += isinstance(error, ArgumentError) and not codec.width
        if count.without_size >= _MAX_WITHOUT_SIZE:
            raise self._guards.too_large("has larger ones")

    def _whole_size(self) -> int:
        """Return the size in bytes; of a file that arrives only at its end, for which this waits."""
        if self._file.seekable() and self._size_bytes is not None:
            return self._size_bytes
        return self._file.seek(0, io.SEEK_END)

    def _ends_early(self) -> bool:
        return ends_early(self._video.duration_ns, self._pass.read_until_ns)
