"""Looks up the products of one video's tracks and objects, a few at a time, and keeps what went wrong."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from shoppable.orchestrator.domain import MatchOptions, MatchOutcome, View
from shoppable.orchestrator.following import EndedTrack
from shoppable.orchestrator.identity import TrackedObject
from shoppable.orchestrator.offers import OfferGate
from shoppable.orchestrator.ports import ProductMatcher
from shoppable.orchestrator.tally import Tally
from shoppable.v1 import product_matcher_pb2

MAX_LOOKS = 8  # views that the matcher takes for one thing


class Lookups:
    """The matches of one video that are in work."""

    def __init__(
        self,
        matcher: ProductMatcher,
        options: MatchOptions | None,
        gate: OfferGate,
        *,
        at_a_time: int,
        tally: Tally,
    ) -> None:
        """Match by `options`, or nothing if None."""
        self._matcher = matcher
        self._options = options
        self._gate = gate
        self._tally = tally
        self._slots = asyncio.Semaphore(at_a_time)
        # What was embedded before needs no model, and takes no turn behind what does: an object's end waits for it.
        self._slots_of_embedded = asyncio.Semaphore(at_a_time)
        self._in_work: deque[tuple[EndedTrack, asyncio.Task[MatchOutcome | None]]] = deque()
        self.searched: MatchOutcome | None = None  # the latest that did not fail

    def start(self, ended: EndedTrack) -> None:
        """Begin to match a track that ended."""
        self._in_work.append((ended, asyncio.create_task(self._match_track(ended), name="match")))

    async def ended(self, *, block_above: int) -> AsyncGenerator[tuple[EndedTrack, MatchOutcome | None], None]:
        """Yield matched tracks in the order in which they were started; wait while more than that are in work."""
        while self._in_work and (self._in_work[0][1].done() or len(self._in_work) > block_above):
            ended, task = self._in_work[0]
            match = await task
            self._in_work.popleft()
            yield ended, match

    def starts(self, category: str) -> list[float]:
        """Return when the tracks of a category that are in work began."""
        return [ended.segment.start_s for ended, _ in self._in_work if ended.track.category == category]

    async def match(
        self, looks: Sequence[View] | Sequence[product_matcher_pb2.Embedding], category: str
    ) -> MatchOutcome | None:
        """Match one thing, in its turn; None if nothing is to be matched."""
        if self._options is None:
            return None
        embedded = isinstance(looks[0], product_matcher_pb2.Embedding)
        async with self._slots_of_embedded if embedded else self._slots:
            with self._tally.matching.working():
                outcome = await self._matcher.match(looks, category, self._options)
        self._tally.matching.items += 1
        if outcome.failure:
            self._tally.matching.failed += 1
            self._tally.fail("match", outcome.failure)
        else:
            self.searched = outcome
        return outcome

    async def match_object(self, item: TrackedObject) -> MatchOutcome | None:
        """Return what an object may be: its one track's answer, or one made of all tracks' views."""
        answers = [matched.match for matched in item.tracks if matched.match]
        good = [answer for answer in answers if answer.failure is None]
        if not good:
            return answers[0] if answers else None
        if len(good) == 1:
            return good[0]
        # Each track's best views in turn, so that none is left out.
        longest = max(len(answer.embeddings) for answer in good)
        looks = [answer.embeddings[rank] for rank in range(longest) for answer in good if rank < len(answer.embeddings)]
        joint = await self.match(looks[:MAX_LOOKS], item.category)
        return good[0] if joint is None or joint.failure else joint

    async def close(self) -> None:
        """Cancel what is in work."""
        tasks = [task for _, task in self._in_work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _match_track(self, ended: EndedTrack) -> MatchOutcome | None:
        if self._gate.before_matching(ended.track.category, [ended.segment]):
            return None
        return await self.match(ended.views, ended.track.category)
