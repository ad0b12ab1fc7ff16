"""Tells of objects that are still in the picture: as soon as one is confirmed, and when it is known better.

What it tells is provisional. A track is looked up with the views that it has when it is confirmed, and again once its
best view is clearly better, at most once a second of film. Each track has one lookup in work at a time.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shoppable.orchestrator.domain import FoundObject, MatchOutcome, Segment
from shoppable.orchestrator.following import EndedTrack
from shoppable.orchestrator.lookups import Lookups
from shoppable.orchestrator.offers import OfferGate

_BETTER = 1.3  # times the quality of the best view that was looked up
_PAUSE_S = 1.0  # of film, between two lookups of a track


@dataclass
class _Preview:
    """One track in the picture."""

    object_id: str
    looked_up_s: float
    quality: float  # of the best view that was looked up
    task: asyncio.Task[MatchOutcome | None] | None
    seen: EndedTrack  # as it was when it was looked up
    told: tuple[object, ...] | None = None  # what was last told of it


class Previews:
    """The objects of one video that are in the picture."""

    def __init__(
        self,
        lookups: Lookups,
        gate: OfferGate,
        *,
        new_id: Callable[[], str],
        cleared_s: Callable[[], float],
    ) -> None:
        """Take ids from `new_id`; offer nothing that is later than `cleared_s` of film."""
        self._lookups = lookups
        self._gate = gate
        self._new_id = new_id
        self._cleared_s = cleared_s
        self._by_track: dict[int, _Preview] = {}

    def take(self, time_s: float, followed: Iterable[EndedTrack]) -> None:
        """Take in the confirmed tracks as they stand at a moment of the film."""
        for item in followed:
            best = item.views[0].quality
            preview = self._by_track.get(item.track.track_id)
            if preview is None:
                self._by_track[item.track.track_id] = _Preview(self._new_id(), time_s, best, self._look_up(item), item)
            elif (
                preview.task is None and best >= _BETTER * preview.quality and time_s - preview.looked_up_s >= _PAUSE_S
            ):
                preview.looked_up_s, preview.quality, preview.seen = time_s, best, item
                preview.task = self._look_up(item)

    def known(self) -> list[FoundObject]:
        """Return the objects of which there is something new to tell."""
        found = []
        for preview in self._by_track.values():
            if preview.task is None or not preview.task.done():
                continue
            told = self._found(preview, preview.task.result())
            if told is None:
                continue  # not yet
            preview.task = None
            essence = _essence(told)
            if essence != preview.told:
                preview.told = essence
                found.append(told)
        return found

    def end(self, track_id: int) -> str | None:
        """Forget a track that ended; return the id under which it was, or was to be, told of."""
        preview = self._by_track.pop(track_id, None)
        if preview is None:
            return None
        if preview.task is not None:
            preview.task.cancel()
        return preview.object_id

    async def close(self) -> None:
        """Cancel what is in work."""
        tasks = [preview.task for preview in self._by_track.values() if preview.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look_up(self, item: EndedTrack) -> asyncio.Task[MatchOutcome | None]:
        barred = self._gate.before_matching(item.track.category, [item.segment])
        work = _nothing() if barred else self._lookups.match(item.views, item.track.category)
        task = asyncio.create_task(work, name="preview")
        task.add_done_callback(_mark_read)
        return task

    def _found(self, preview: _Preview, match: MatchOutcome | None) -> FoundObject | None:
        item = preview.seen
        segments: Sequence[Segment] = [item.segment]
        observations = [seen for seen in item.track.observations if seen.time_s < item.segment.end_s]
        withheld = self._gate.before_matching(item.track.category, segments)
        if withheld is None and (item.segment.end_s > self._cleared_s() or self._is_too_little(item)):
            return None
        return FoundObject(
            object_id=preview.object_id,
            label=observations[-1].label,
            category=item.track.category,
            detection_score=item.track.score_sum / item.track.seen,
            segments=segments,
            observations=observations,
            best_view=item.views[0],
            match=None if withheld else match,
            final=False,
            withheld=withheld,
            worn=item.track.worn,
        )

    def _is_too_little(self, item: EndedTrack) -> bool:
        """Return whether too little is seen of a track by now; it may become enough while it is in the picture."""
        sightings = item.track.observations
        area = max(seen.box.area for seen in sightings)
        return self._gate.too_little(area, sightings[-1].time_s - sightings[0].time_s) is not None


def _essence(found: FoundObject) -> tuple[object, ...]:
    """Return what makes it worth telling of an object again."""
    match = found.match
    products = tuple(item.product.name for item in match.products) if match else ()
    return (found.label, found.withheld, match.decision if match else None, products, found.best_view.quality)


async def _nothing() -> None:
    return None


def _mark_read(task: asyncio.Task[MatchOutcome | None]) -> None:
    """Look at a failure, or asyncio complains of one that nobody waits for: the track's own match meets it as well."""
    if not task.cancelled():
        task.exception()
