"""Walks through a video and picks the frames that leave, decoding no more than it must."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from shoppable.decoder.adapters.frames import DecodedFrame
from shoppable.decoder.adapters.opening import DAMAGE
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.adapters.rendering import Glance
from shoppable.decoder.cuts import CutDetector
from shoppable.decoder.domain import FramesPerSecond, Moments, Order, Scenes
from shoppable.decoder.sampling import Foresight, Sampler, Verdict


@dataclass(frozen=True)
class Selected:
    """A frame that leaves."""

    frame: DecodedFrame
    after_cut: bool = False  # known from the frame just before it, whether that one leaves or not


class Selection:
    """The frames of one order, in order of time. Blocking at each step; yields None where work may pause."""

    def __init__(self, video: VideoFile, order: Order) -> None:
        self._video = video
        self._order = order
        self.read_to_end = False

    def __iter__(self) -> Iterator[Selected | None]:
        match self._order.sampling:
            case Moments(times_ns):
                return self._at(deque(times_ns))
            case Scenes():
                return self._judged(_CutWatch())
            case _:
                return self._judged(None)

    def _judged(self, watch: "_CutWatch | None") -> Iterator[Selected | None]:
        order, tick_ns = self._order, self._video.tick_ns
        sampler = Sampler(order, tick_ns=tick_ns)
        if isinstance(order.sampling, FramesPerSecond):
            self._video.skip_if(Foresight(order.sampling.rate, start_ns=order.start_ns, tick_ns=tick_ns).rules_out)
        for frame in self._video.frames(self._order.start_ns):
            if frame is None:
                yield None
                continue
            verdict = sampler.judge(frame.time_ns, keyframe=frame.keyframe)
            if verdict is Verdict.PAST_END:
                return
            after_cut = watch is not None and verdict is not Verdict.OUTSIDE and watch.sees_cut(frame)
            yield Selected(frame, after_cut) if verdict is Verdict.SEND or after_cut else None
        self.read_to_end = True

    def _at(self, wanted: deque[int]) -> Iterator[Selected | None]:
        """Yield what is on the screen at the wanted times: a frame is known to be when the next one comes."""
        shown: DecodedFrame | None = None
        while wanted:
            jumped = False
            for frame in self._video.frames(wanted[0]):
                if frame is None or (shown is not None and frame.time_ns <= shown.time_ns):
                    yield None
                    continue
                if shown is not None and wanted[0] < frame.time_ns:
                    yield Selected(shown)
                    while wanted and wanted[0] < frame.time_ns:
                        wanted.popleft()
                shown = frame
                if not wanted:
                    return
                jumped = self._video.key_frame_lies_between(frame.time_ns, wanted[0])
                if jumped:
                    break
                yield None
            if not jumped:
                break
        self.read_to_end = True
        if shown is not None and wanted and wanted[0] < shown.end_ns:
            yield Selected(shown)


class _CutWatch:
    """Looks at every frame."""

    def __init__(self) -> None:
        self._glance = Glance()
        self._cuts = CutDetector()

    def sees_cut(self, frame: DecodedFrame) -> bool:
        try:
            return self._cuts.is_cut(self._glance.at(frame.picture))
        except DAMAGE:  # counted when the frame itself is rendered
            return False
