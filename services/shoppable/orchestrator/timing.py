"""Measures for how long a stage has at least one call in work."""

import contextlib
import time
from collections.abc import Iterator

from shoppable.orchestrator.domain import StageTiming


class StageClock:
    """Counts a stage's items and failures, and the time in which any is in work."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._in_work = 0
        self._since = 0.0
        self._busy_s = 0.0
        self.items = 0
        self.failed = 0

    def begin(self) -> None:
        """One more is in work."""
        if self._in_work == 0:
            self._since = time.perf_counter()
        self._in_work += 1

    def end(self) -> None:
        """One fewer is in work."""
        self._in_work -= 1
        if self._in_work == 0:
            self._busy_s += time.perf_counter() - self._since

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One is in work while inside."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def timing(self) -> StageTiming:
        """Return what was measured."""
        return StageTiming(self._stage, self._busy_s, self.items, self.failed)
