"""Keeps of an object's boxes over time only those that a player needs, who draws straight lines between them.

Greedy, in one pass: from the box that was kept last, as far as one straight line comes within the tolerance of all
boxes between (the swing filter of time series). What is held is what is kept, and one slope each way for each edge.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shoppable.orchestrator.domain import Observation

_Edges = npt.NDArray[np.float64]  # [4]
_ROUNDING = 1e-9
# A thing may move about in a live picture for days: of more boxes every second one is forgotten.
_MAX_KEPT = 4096


class ThinnedBoxes:
    """The sightings of one unbroken span. Add them in order of time.

    Between two that are kept, a straight line passes within `tolerance` (share of the frame) of each edge of every
    box that was added. The first and the last are kept. A tolerance of 0 keeps all. Of more than 4096 that are kept
    every second one is forgotten, whatever the tolerance.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._kept: list[Observation] = []
        self._latest: Observation | None = None  # not kept yet: the next may be in line with it
        self._lowest = self._highest = np.zeros(4)  # slopes of the lines that pass by all since the last kept

    def add(self, seen: Observation) -> None:
        """Take in a sighting that is later than all before."""
        if not self._kept:
            self._kept.append(seen)
            return
        if self._latest is not None and not (self._tolerance and self._passes(seen)):
            self._kept.append(self._latest)
            self._latest = None
            if len(self._kept) > _MAX_KEPT:
                del self._kept[1:-1:2]
        low, high = self._slopes(seen, self._tolerance)
        if self._latest is not None:
            low, high = np.maximum(low, self._lowest), np.minimum(high, self._highest)
        self._lowest, self._highest, self._latest = low, high, seen

    def boxes(self) -> Sequence[Observation]:
        """Return what is kept, in order of time."""
        return [*self._kept, *([] if self._latest is None else [self._latest])]

    def _passes(self, seen: Observation) -> bool:
        """Return whether the line from the last that was kept to this one passes by all between."""
        slope, _ = self._slopes(seen, 0.0)
        return bool(np.all(slope >= self._lowest - _ROUNDING) and np.all(slope <= self._highest + _ROUNDING))

    def _slopes(self, seen: Observation, tolerance: float) -> tuple[_Edges, _Edges]:
        start = self._kept[-1]
        elapsed = seen.time_s - start.time_s
        rise = np.subtract(seen.box, start.box)
        return (rise - tolerance) / elapsed, (rise + tolerance) / elapsed
