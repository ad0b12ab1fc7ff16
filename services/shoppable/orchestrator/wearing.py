"""Follows what is derived from people, where clothes are worn: by the person, never by the place of the region.

A region is nothing but a part of a person's box. So people are followed, as things are, and a track of a region is one
region of one person's track. Regions of two people who pass each other are no more mixed up than the people are, nor
are the regions of one person, which lie over each other; and what a model sees is not linked with what none saw.
"""

from collections.abc import Iterator, Sequence

from shoppable.orchestrator.camera import STILL, Shift
from shoppable.orchestrator.domain import Box, Detection, Region, Worn
from shoppable.orchestrator.tracking import Sighting, Step, Track, Tracker


def people_of(derived: Sequence[Detection]) -> list[Detection]:
    """Return the people from whom regions were derived, each once."""
    people: dict[tuple[str, Box], Detection] = {}
    for item in derived:
        if item.derivation is not None:
            label, box = item.derivation.label, item.derivation.box
            people.setdefault((label, box), Detection(label, label, box, item.score))
    return list(people.values())


class WornTracker:
    """Follows the derived regions of one video. Feed frames in order of time."""

    def __init__(self, *, max_gap_s: float, tolerance: float, ids: Iterator[int]) -> None:
        """Take `ids` for the tracks of regions; see `Tracker` for the rest."""
        self._max_gap_s = max_gap_s
        self._tolerance = tolerance
        self._ids = ids
        self._people = Tracker(max_gap_s=max_gap_s)
        self._worn: dict[int, dict[Region, Track]] = {}  # by the person's track and the region

    @property
    def active(self) -> Sequence[Track]:
        """The tracks of regions that have not ended."""
        return [track for worn in self._worn.values() for track in worn.values()]

    def update(
        self,
        time_s: float,
        regions: Sequence[Sighting],
        people: Sequence[Sighting],
        *,
        scene_cut: bool,
        shift: Shift = STILL,
    ) -> Step:
        """Take in a frame: its regions, and the people whom they are of (`people_of`)."""
        step = self._people.update(time_s, people, scene_cut=scene_cut, shift=shift)
        ended = [track for person in step.ended for track in self._worn.pop(person.track_id, {}).values()]
        for worn in self._worn.values():
            gone = [region for region, track in worn.items() if self._is_gone(track, time_s)]
            ended += [worn.pop(region) for region in gone]
        wearers = {
            (person.detection.label, person.detection.box): track
            for person, track in zip(people, step.assigned, strict=True)
        }
        assigned = [self._assign(time_s, sighting, wearers) for sighting in regions]
        for track in self.active:
            if track.last.time_s < time_s and track.unseen_from is None:
                track.unseen_from = time_s
        return Step(assigned, ended)

    def finish(self) -> list[Track]:
        """End all tracks, as at the end of the video."""
        ended = list(self.active)
        self._worn.clear()
        self._people.finish()
        return ended

    def _assign(self, time_s: float, sighting: Sighting, wearers: dict[tuple[str, Box], Track | None]) -> Track | None:
        """Return the track of a region; None if its person is another's second name."""
        source = sighting.detection.derivation
        person = wearers.get((source.label, source.box)) if source else None
        if source is None or person is None:
            return None
        worn = self._worn.setdefault(person.track_id, {})
        track = worn.get(source.region)
        if track is None:
            where = Worn(source.region, source.label, f"person-{person.track_id}")
            track = Track(next(self._ids), time_s, sighting, tolerance=self._tolerance, worn=where)
            worn[source.region] = track
        else:
            track.add(time_s, sighting)
        return track

    def _is_gone(self, track: Track, time_s: float) -> bool:
        return track.unseen_from is not None and time_s - track.last.time_s > self._max_gap_s
