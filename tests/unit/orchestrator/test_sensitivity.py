"""The spans that a classifier's scores bar."""

import asyncio
import math

import pytest

from shoppable.orchestrator.domain import Frame, Segment, Withheld
from shoppable.orchestrator.sensitivity import SensitivityWatch, WatchSettings
from shoppable.runtime.errors import UnavailableError
from shoppable.v1 import common_pb2


class Scores:
    """Scores by the second; None fails."""

    def __init__(self, scores: list[float | None], *, hold: asyncio.Event | None = None) -> None:
        self.scores, self.hold = scores, hold
        self.asked: list[float] = []
        self.in_work = self.most_in_work = 0

    async def score(self, frame: Frame) -> float:
        self.asked.append(frame.time_s)
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            if self.hold:
                await self.hold.wait()
            score = self.scores[int(frame.time_s)]
            if score is None:
                raise UnavailableError("away", reason="AWAY")
            return score
        finally:
            self.in_work -= 1


def frame(time_s: float, *, cut: bool = False) -> Frame:
    return Frame(round(time_s * 5), time_s, common_pb2.Image(), scene_cut=cut)


def watch_over(scores: Scores, *, padding_s: float = 0.5, failures: list | None = None) -> SensitivityWatch:
    settings = WatchSettings(interval_s=1.0, padding_s=padding_s, threshold=0.5)
    return SensitivityWatch(scores, settings, record=(failures if failures is not None else []).append)


async def watched(scores: list[float | None], **options) -> SensitivityWatch:
    watch = watch_over(Scores(scores), **options)
    for number in range(5 * len(scores)):
        await watch.take(frame(number / 5))
        await asyncio.sleep(0)
    await watch.finish(float(len(scores)))
    return watch


def spans(watch: SensitivityWatch) -> list[tuple[float, float, str, float | None]]:
    return [(item.segment.start_s, item.segment.end_s, item.reason.name, item.score) for item in watch.ranges]


async def test_a_sensitive_frame_bars_the_time_to_its_neighbours_and_the_padding_around():
    watch = await watched([0, 0, 0, 0.9, 0, 0])
    assert spans(watch) == [(1.5, 4.5, "SENSITIVE_CONTENT", 0.9)]
    assert watch.barred([Segment(0, 1.5)]) is None
    assert watch.barred([Segment(0, 1), Segment(4.4, 6)]) is Withheld.SENSITIVE_CONTENT
    assert watch.barred([Segment(4.5, 6)]) is None


async def test_spans_that_touch_are_one_with_the_highest_score_and_the_last_reaches_to_the_end():
    watch = await watched([0, 0.6, 0.5, 0, 0, 0, 0, 0, 0.7])
    assert spans(watch) == [(0, 3.5, "SENSITIVE_CONTENT", 0.6), (6.5, 9, "SENSITIVE_CONTENT", 0.7)]


async def test_what_cannot_be_judged_is_barred_for_another_reason_and_recorded():
    failures: list = []
    watch = await watched([0, 0, None, 0, 0, 0], failures=failures)
    assert spans(watch) == [(0.5, 3.5, "UNCLASSIFIED_CONTENT", None)]
    assert [status.message for status in failures] == ["away"]


async def test_the_frame_after_a_cut_is_looked_at_whatever_the_interval():
    scores = Scores([0.0, 0.0])
    watch = watch_over(scores)
    for time_s, cut in ((0.0, False), (0.2, False), (0.4, True), (0.6, False), (1.2, False), (1.4, False)):
        await watch.take(frame(time_s, cut=cut))
    await watch.finish(1.6)
    assert scores.asked == [0.0, 0.4, 1.4]


async def test_time_is_cleared_only_behind_all_that_was_judged():
    hold = asyncio.Event()
    scores = Scores([0.0] * 20, hold=hold)
    watch = watch_over(scores)
    for second in range(4):
        await watch.take(frame(second))
    assert watch.cleared_s <= 0
    hold.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await watch.take(frame(4))
    assert watch.cleared_s == 3 - 0.5
    await watch.finish(5)
    assert watch.cleared_s == math.inf


async def test_a_slow_classifier_is_waited_for_with_few_frames_in_flight():
    hold = asyncio.Event()
    scores = Scores([0.0] * 30, hold=hold)
    watch = watch_over(scores)

    async def feed() -> None:
        for second in range(30):
            await watch.take(frame(second))

    feeding = asyncio.create_task(feed())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(feeding), 0.05)
    assert scores.most_in_work <= 5
    feeding.cancel()
    await watch.close()
    assert scores.in_work == 0


async def test_ever_more_spans_take_no_more_memory():
    scores = [1.0 if second % 8 == 0 else 0.0 for second in range(9_000)]
    watch = watch_over(Scores(scores))
    for second in range(len(scores)):
        await watch.take(frame(second))
        await asyncio.sleep(0)
    await watch.finish(9_000)
    assert len(watch.ranges) == 1000
    assert watch.barred([Segment(8_500, 8_501)])  # joined, not forgotten
