"""Decides which frames of a video leave. Frames are shown to it in the order in which the codec gives them."""

from enum import Enum
from fractions import Fraction
from typing import Protocol

from shoppable.decoder.domain import (
    NS_PER_S,
    EveryNthFrame,
    FramesPerSecond,
    KeyframesOnly,
    Moments,
    Order,
    Sampling,
    Scenes,
)

_INTERVALS_KEPT = 64  # packets are out of order by no more than 16


class Verdict(Enum):
    """What becomes of a frame."""

    SEND = "send"
    SKIP = "skip"
    OUTSIDE = "outside"  # before the start, or not later than a frame before
    PAST_END = "past end"  # this frame and all after it are not wanted


class _Strategy(Protocol):
    def wants(self, time_ns: int, *, keyframe: bool) -> bool: ...


class _Rate:
    """Of each interval of 1/n seconds, counted from the start, the first frame at or after its beginning.

    A container rounds times to its ticks: in Matroska, whose tick is 1 ms, the second frame of 30 a second is at 33 ms,
    before its interval begins at 33.3. So a frame counts as half a tick later than it says.
    """

    def __init__(self, rate: Fraction, start_ns: int, tick_ns: int) -> None:
        self._rate = rate / NS_PER_S
        self._origin_ns = start_ns - max(1, tick_ns // 2)
        self._last = -1

    def wants(self, time_ns: int, *, keyframe: bool) -> bool:
        interval = int((time_ns - self._origin_ns) * self._rate)
        if interval <= self._last:
            return False
        self._last = interval
        return True


class Foresight:
    """Tells from the times of packets, which come before their frames, which frames a rate will not want.

    Of an interval, that is each frame but the earliest one whose packet has been read.
    """

    def __init__(self, rate: Fraction, *, start_ns: int, tick_ns: int) -> None:
        self._rate = rate / NS_PER_S
        self._start_ns = start_ns
        self._origin_ns = start_ns - max(1, tick_ns // 2)
        self._earliest: dict[int, int] = {}  # of an interval; of the last few intervals

    def rules_out(self, time_ns: int) -> bool:
        """Say whether the frame of the next packet is surely not wanted."""
        if time_ns < self._start_ns:
            return True
        interval = int((time_ns - self._origin_ns) * self._rate)
        earliest = self._earliest.get(interval)
        if earliest is not None and earliest < time_ns:
            return True
        self._earliest[interval] = time_ns
        if len(self._earliest) > _INTERVALS_KEPT:
            del self._earliest[min(self._earliest)]
        return False


class _EveryNth:
    def __init__(self, n: int) -> None:
        self._n = n
        self._seen = -1

    def wants(self, time_ns: int, *, keyframe: bool) -> bool:
        self._seen += 1
        return self._seen % self._n == 0


class _Keyframes:
    def wants(self, time_ns: int, *, keyframe: bool) -> bool:
        return keyframe


def _strategy(sampling: Sampling, start_ns: int, tick_ns: int) -> _Strategy:
    match sampling:
        case FramesPerSecond(rate):
            return _Rate(rate, start_ns, tick_ns)
        case EveryNthFrame(n):
            return _EveryNth(n)
        case KeyframesOnly():
            return _Keyframes()
        case Scenes(rate):
            return _Rate(rate, start_ns, tick_ns)
        case Moments():
            raise ValueError("moments are looked up, not judged frame by frame")


class Sampler:
    """An order's span and sampling.

    Times that leave rise strictly: a frame that is not later than all before it is skipped, whatever its sampling.
    """

    def __init__(self, order: Order, *, tick_ns: int) -> None:
        """`tick_ns` is the resolution of the container's times."""
        self._start_ns = order.start_ns
        self._end_ns = order.end_ns
        self._strategy = _strategy(order.sampling, order.start_ns, tick_ns)
        self._last_ns = -1

    def judge(self, time_ns: int, *, keyframe: bool) -> Verdict:
        """Say what becomes of the next frame."""
        if self._end_ns is not None and time_ns >= self._end_ns:
            return Verdict.PAST_END
        if time_ns <= self._last_ns or time_ns < self._start_ns:
            return Verdict.OUTSIDE
        self._last_ns = time_ns
        return Verdict.SEND if self._strategy.wants(time_ns, keyframe=keyframe) else Verdict.SKIP
