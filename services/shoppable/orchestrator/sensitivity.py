"""Watches a video for sensitive content: frames in, spans of time in which nothing may be offered out.

About one frame a second is scored, and the first after each cut. A frame that is sensitive bars the time up to the
frames before and after it that were scored, for it may have begun or ended anywhere between, and some padding around.
What the classifier cannot judge is barred as well: who may be harmed by a wrong offer is not asked to trust a server
that is away.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.rpc import status_pb2

from shoppable.orchestrator.domain import Frame, Segment, SensitiveRange, Withheld
from shoppable.orchestrator.ports import ContentClassifier
from shoppable.runtime.errors import ServiceError, to_status

_IN_FLIGHT = 4  # frames of a video
_TICK_S = 1e-6  # times are kept in floats
_MAX_RANGES = 1000  # of a video; beyond, the nearest are joined


@dataclass(frozen=True)
class WatchSettings:
    """How closely a video is watched."""

    interval_s: float
    padding_s: float
    threshold: float


class SensitivityWatch:
    """The spans of one video. Feed frames in order of time."""

    def __init__(
        self,
        classifier: ContentClassifier,
        settings: WatchSettings,
        *,
        record: Callable[[status_pb2.Status], None],
    ) -> None:
        """Watch with a classifier; `record` is told of each failure."""
        self._classifier = classifier
        self._settings = settings
        self._record = record
        self._asked: deque[tuple[float, asyncio.Task[float | None]]] = deque()
        self._asked_s = -math.inf  # time of the latest frame that was asked about
        self._judged_s = 0.0  # time of the latest frame whose score is in the ranges
        self._open_end = False  # the latest was barred: so is the time up to the next
        self._over = False
        self._ranges: list[SensitiveRange] = []

    async def take(self, frame: Frame) -> None:
        """Take in a frame; waits while too many are being judged."""
        if frame.scene_cut or frame.time_s - self._asked_s >= self._settings.interval_s - _TICK_S:
            self._asked_s = frame.time_s
            self._asked.append((frame.time_s, asyncio.create_task(self._score(frame), name="classify")))
        while self._asked and (self._asked[0][1].done() or len(self._asked) > _IN_FLIGHT):
            await self._judge()

    async def finish(self, end_s: float) -> None:
        """Judge all that was asked about: the video is over, at `end_s`."""
        while self._asked:
            await self._judge()
        self._over = True
        if self._open_end:
            self._extend(end_s)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._asked]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def cleared_s(self) -> float:
        """The time up to which the ranges will not change any more."""
        return math.inf if self._over else self._judged_s - self._settings.padding_s

    @property
    def ranges(self) -> Sequence[SensitiveRange]:
        """The spans found so far, in order of time."""
        return tuple(self._ranges)

    def barred(self, segments: Sequence[Segment]) -> Withheld | None:
        """Return why a thing that is there in `segments` must not be offered, as far as is known now."""
        reasons = {
            item.reason
            for item in self._ranges
            for segment in segments
            if item.segment.start_s < segment.end_s and segment.start_s < item.segment.end_s
        }
        if not reasons:
            return None
        return Withheld.SENSITIVE_CONTENT if Withheld.SENSITIVE_CONTENT in reasons else reasons.pop()

    async def _score(self, frame: Frame) -> float | None:
        try:
            return await self._classifier.score(frame)
        except ServiceError as error:
            self._record(to_status(error))
            return None

    async def _judge(self) -> None:
        """Take the oldest answer into the ranges."""
        time_s, task = self._asked[0]
        score = await task
        self._asked.popleft()
        before_s, self._judged_s = self._judged_s, time_s
        if self._open_end:
            self._extend(time_s + self._settings.padding_s)
        self._open_end = score is None or score >= self._settings.threshold
        if self._open_end:
            padding_s = self._settings.padding_s
            segment = Segment(max(0.0, before_s - padding_s), time_s + padding_s)
            reason = Withheld.UNCLASSIFIED_CONTENT if score is None else Withheld.SENSITIVE_CONTENT
            self._add(SensitiveRange(segment, reason, score))

    def _extend(self, end_s: float) -> None:
        latest = self._ranges[-1]
        segment = Segment(latest.segment.start_s, max(latest.segment.end_s, end_s))
        self._ranges[-1] = SensitiveRange(segment, latest.reason, latest.score)

    def _add(self, new: SensitiveRange) -> None:
        latest = self._ranges[-1] if self._ranges else None
        joined = latest is not None and latest.reason is new.reason and new.segment.start_s <= latest.segment.end_s
        if latest is None or not (joined or len(self._ranges) >= _MAX_RANGES):
            self._ranges.append(new)
            return
        segment = Segment(
            min(latest.segment.start_s, new.segment.start_s), max(latest.segment.end_s, new.segment.end_s)
        )
        reason = new.reason if latest.reason is new.reason else Withheld.SENSITIVE_CONTENT
        scores = [score for score in (latest.score, new.score) if score is not None]
        self._ranges[-1] = SensitiveRange(segment, reason, max(scores, default=None))
